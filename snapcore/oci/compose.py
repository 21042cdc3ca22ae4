"""New configs and manifests: an image with one more layer (OCI image-spec, config.md, manifest.md).

The only place that writes such documents. The same arguments give the same bytes. What the
config of the image below has and this does not know goes along as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from snapcore.errors import RefusedInput
from snapcore.oci.descriptor import (
    DOCKER_LAYER,
    DOCKER_LAYER_FOREIGN,
    OCI_LAYER,
    OCI_LAYER_NONDISTRIBUTABLE,
    OCI_MANIFEST,
    Descriptor,
)
from snapcore.oci.digest import Digest
from snapcore.oci.manifest import decode_strictly
from snapcore.oci.platform import Platform
from snapcore.oci.runtime import RuntimeConfig, change

_T = TypeVar("_T")
_OF_ONE_BUILD: Final = ("container", "container_config", "id", "parent", "docker_version")
"""What docker writes into a config of the container that it was made from."""
_OCI_TYPES: Final = {
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_FOREIGN: OCI_LAYER_NONDISTRIBUTABLE,
}


@dataclass(frozen=True, slots=True)
class AddedLayer:
    """A layer that goes on top of an image.

    Attributes:
        diff_id: of the layer.
        created: when, RFC 3339.
        created_by: what made it.
        author: who.
        comment: free text.
        changes: to how a container is run, see `snapcore.oci.runtime`.
    """

    diff_id: Digest
    created: str
    created_by: str
    author: str = ""
    comment: str = ""
    changes: Sequence[str] = ()


class _History(msgspec.Struct, omit_defaults=True):
    created: str
    created_by: str
    author: str = ""
    comment: str = ""


class _Emptiness(msgspec.Struct):
    empty_layer: bool = False


class _RootFS(msgspec.Struct):
    type: str
    diff_ids: list[str]


class _Blob(msgspec.Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None


class _Manifest(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str
    config: _Blob
    layers: list[_Blob]


def compose_config(base: bytes | None, platform: Platform, added: AddedLayer) -> bytes:
    """Return the config of an image with one more layer.

    Args:
        base: the config of the image below; None for a first layer.
        platform: of an image that begins with this layer.
        added: the layer.

    Raises:
        RefusedInput: the config below is malformed.
        InvalidArgument: a change is.
    """
    document = _decoded(base)
    for key in _OF_ONE_BUILD:
        document.pop(key, None)
    if base is None:
        document["architecture"] = _encoded(platform.architecture)
        document["os"] = _encoded(platform.os)
        if platform.variant:
            document["variant"] = _encoded(platform.variant)
    document["created"] = _encoded(added.created)
    if added.author:
        document["author"] = _encoded(added.author)
    document["config"] = _changed(document.get("config"), added.changes)
    rootfs = _part(document.get("rootfs"), _RootFS) or _RootFS("layers", [])
    document["rootfs"] = _encoded(_RootFS("layers", [*rootfs.diff_ids, str(added.diff_id)]))
    history = _history(document.get("history"), len(rootfs.diff_ids))
    entry = _History(added.created, added.created_by, added.author, added.comment)
    document["history"] = _encoded([*history, _encoded(entry)])
    return msgspec.json.encode(document)


def compose_manifest(
    config: Descriptor, below: Sequence[Descriptor], layer: Descriptor
) -> tuple[Descriptor, bytes]:
    """Return the descriptor and bytes of the manifest of an image with one more layer.

    Args:
        config: its config.
        below: the layers of the image below; docker's types become OCI's.
        layer: on top of them.
    """
    layers = [_blob(as_oci(each)) for each in (*below, layer)]
    data = msgspec.json.encode(_Manifest(2, OCI_MANIFEST, _blob(config), layers))
    return Descriptor(OCI_MANIFEST, Digest.of(data), len(data)), data


def as_oci(layer: Descriptor) -> Descriptor:
    """Return a layer's descriptor with OCI's media type instead of docker's."""
    for docker, oci in _OCI_TYPES.items():
        if layer.media_type.startswith(docker):
            suffix = layer.media_type.removeprefix(docker).replace(".", "+")
            return replace(layer, media_type=oci + suffix)
    return layer


def _history(raw: msgspec.Raw | None, layers: int) -> list[msgspec.Raw]:
    """Return the history of an image, with an entry for each layer that had none.

    Readers that count take them for the lowest layers.
    """
    entries = _part(raw, list[msgspec.Raw]) or []
    told = sum(not (_part(entry, _Emptiness) or _Emptiness()).empty_layer for entry in entries)
    return [*[_encoded({})] * (layers - told), *entries]


def _changed(raw: msgspec.Raw | None, changes: Sequence[str]) -> msgspec.Raw:
    members = _part(raw, dict[str, msgspec.Raw]) or {}
    known = _part(raw, RuntimeConfig) or RuntimeConfig()
    change(known, changes)
    encoded = msgspec.json.decode(msgspec.json.encode(known), type=dict[str, msgspec.Raw])
    ours = RuntimeConfig.__struct_encode_fields__
    kept = {key: value for key, value in members.items() if key not in ours}
    return _encoded({**kept, **encoded})


def _decoded(base: bytes | None) -> dict[str, msgspec.Raw]:
    if base is None:
        return {}
    return decode_strictly(base, dict[str, msgspec.Raw], "image config")


def _part(raw: msgspec.Raw | None, kind: type[_T]) -> _T | None:
    """Return a member of a config; None if it is not there, or null."""
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise RefusedInput(f"malformed image config: {error}") from error


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _blob(descriptor: Descriptor) -> _Blob:
    return _Blob(
        descriptor.media_type,
        str(descriptor.digest),
        descriptor.size,
        list(descriptor.urls) or None,
        dict(descriptor.annotations) or None,
    )
