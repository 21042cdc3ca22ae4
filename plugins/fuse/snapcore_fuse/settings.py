"""What the operator may choose, as snapshotter and daemon both know it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeAlias

import msgspec

MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30

PrivateNetworks: TypeAlias = Literal["allow", "same-as-registry", "refuse"]


class IndexTrust(StrEnum):
    """When an index is believed that the manifest does not name by digest.

    Who can push such an index to a repository can lie about the files of a layer until all of
    it is here and checked.
    """

    TAG = "tag"
    ALWAYS = "always"
    NEVER = "never"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator may choose; `[plugins.fuse]` says so by these names.

    Attributes:
        min_layer_size: bytes of a blob below which a layer is unpacked as usual.
        index_trust: when an index is believed that the manifest does not name.
        cache_size: most bytes that the cache of all layers may take.
        deadline: seconds after which a read gives up.
        mount_options: added to every overlay mount.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
        complete: fetch the rest of each layer when nothing else is wanted.
        docker_config: path of a docker `config.json` with credentials, "" for none.
        secrets: path of a file of the same form, looked into first; "" for none.
        config_path: directories with a `hosts.toml` for each registry, the first one wins.
        plain_http: registries that are spoken to without TLS.
        insecure: registries whose certificate is not checked.
        ca: PEM file of authorities that are trusted besides the system's, "" for none.
        private_networks: as `[registry] private_networks`.
    """

    min_layer_size: int = MEBIBYTE
    index_trust: IndexTrust = IndexTrust.TAG
    cache_size: int = 10 * GIBIBYTE
    deadline: int = 30
    mount_options: tuple[str, ...] = ()
    sync_remove: bool = False
    complete: bool = False
    docker_config: str = ""
    secrets: str = ""
    config_path: tuple[str, ...] = ()
    plain_http: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    ca: str = ""
    private_networks: PrivateNetworks = "same-as-registry"
