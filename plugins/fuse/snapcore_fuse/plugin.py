"""What the entry point `fuse` names: options, probe and opening."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from snapcore.errors import InvalidArgument
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import (
    Backend,
    IndexBlob,
    Option,
    Options,
    OverlayForm,
    Probe,
    hookimpl,
)
from snapcore_fuse.fuse import FuseSnapshotter
from snapcore_fuse.probe import probe as try_out
from snapcore_fuse.settings import IndexTrust, Settings


@hookimpl
def snapcore_options() -> Mapping[str, Option]:
    """Return the options of `[plugins.fuse]`."""
    default = Settings()
    return {
        "min_layer_size": Option(
            kind=int,
            default=default.min_layer_size,
            help="Bytes of a compressed layer below which it is unpacked as usual.",
        ),
        "index_trust": Option(
            kind=str,
            default=default.index_trust.value,
            help="When to believe an index that the manifest does not name by digest:"
            " for images pulled by tag, always, or never.",
            choices=tuple(word.value for word in IndexTrust),
        ),
        "cache_size": Option(
            kind=int,
            default=default.cache_size,
            help="Most bytes that the cache of all layers may take.",
        ),
        "deadline": Option(
            kind=int,
            default=default.deadline,
            help="Seconds after which a read that waits for the registry fails.",
        ),
        "mount_options": Option(
            kind=list[str],
            default=default.mount_options,
            help="Options added to every overlay mount, such as `xino=off`.",
        ),
        "sync_remove": Option(
            kind=bool,
            default=default.sync_remove,
            help="Delete files when a snapshot is removed, not only at the next cleanup.",
        ),
        "complete": Option(
            kind=bool,
            default=default.complete,
            help="Fetch the rest of each layer when nothing else is wanted, and check all of it.",
        ),
        "docker_config": Option(
            kind=str,
            default=default.docker_config,
            help="Docker config.json with credentials for later reads;"
            " that of [registry] if not set.",
        ),
        "secrets": Option(
            kind=str,
            default=default.secrets,
            help="File of the same form as docker_config, looked into first.",
        ),
        "config_path": Option(
            kind=list[str],
            default=default.config_path,
            help="Directories with a hosts.toml for each registry; those of [registry] if not set.",
        ),
        "plain_http": Option(
            kind=list[str],
            default=default.plain_http,
            help="Registries to speak plain HTTP with; those of [registry] if not set.",
        ),
        "insecure": Option(
            kind=list[str],
            default=default.insecure,
            help="Registries whose certificate is not checked; those of [registry] if not set.",
        ),
        "ca": Option(
            kind=str,
            default=default.ca,
            help="PEM file of more trusted authorities; that of [registry] if not set.",
        ),
        "private_networks": Option(
            kind=str,
            default=default.private_networks,
            help="Where registries may be and send us; as [registry] says if not set.",
            choices=("allow", "same-as-registry", "refuse"),
        ),
    }


@hookimpl
def snapcore_probe(root: str, options: Options) -> Probe:
    """Find out by mounting at `root` whether overlayfs works there on top of FUSE."""
    return try_out(root, _settings(options).mount_options)


@hookimpl
def snapcore_open(root: str, options: Options, probe: Probe) -> Backend:
    """Open the state below `root` in the form that the probe has found."""
    form = probe.findings if isinstance(probe.findings, OverlayForm) else None
    return FuseSnapshotter(root, _settings(options), form)


@hookimpl
def snapcore_index(blob: int, layer: Descriptor, diff_id: Digest, quick: bool) -> IndexBlob:
    """Make the index of spans of a gzip or uncompressed layer."""
    # Here, as no other hook needs the formats of layers: the daemon has them.
    from snapcore_fuse.published import make_index

    return make_index(blob, layer, diff_id, thin=not quick)


def _settings(options: Options) -> Settings:
    try:
        return msgspec.convert(dict(options), Settings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"[plugins.fuse]: {error}") from error
