"""Descriptors and the media types that decide how a blob is treated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from snapcore.errors import RefusedInput
from snapcore.oci.digest import Digest
from snapcore.oci.platform import Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"

_LAYERS = (OCI_LAYER, OCI_LAYER_NONDISTRIBUTABLE, DOCKER_LAYER, DOCKER_LAYER_FOREIGN)
# The suffixes a layer may carry after its base type (OCI "+gzip", Docker ".gzip").
_LAYER_SUFFIX = re.compile(r"(?:[.+](?:gzip|zstd))?\Z")
# RFC 6838 §4.2: restricted names of at most 127 characters on each side of the slash.
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}\Z", re.ASCII
)
_MAX_SIZE = 1 << 62


def is_index(media_type: str) -> bool:
    """Tell whether a media type is an image index or a Docker manifest list."""
    return media_type in (OCI_INDEX, DOCKER_INDEX)


def is_manifest(media_type: str) -> bool:
    """Tell whether a media type is a single image's manifest."""
    return media_type in (OCI_MANIFEST, DOCKER_MANIFEST)


def is_schema1(media_type: str) -> bool:
    """Tell whether a media type is the obsolete Docker schema 1, which snapcore refuses."""
    return media_type in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED)


def is_image_config(media_type: str) -> bool:
    """Tell whether a media type is a container image's config (not an artifact's)."""
    return media_type in (OCI_CONFIG, DOCKER_CONFIG)


def is_layer(media_type: str) -> bool:
    """Tell whether a media type is a tar layer that snapcore can apply."""
    return any(
        media_type.startswith(base) and _LAYER_SUFFIX.match(media_type, len(base))
        for base in _LAYERS
    )


def is_foreign_layer(media_type: str) -> bool:
    """Tell whether a layer stays with whoever may hand it out (image-spec, layer.md)."""
    return media_type.startswith((OCI_LAYER_NONDISTRIBUTABLE, DOCKER_LAYER_FOREIGN))


def check_media_type(text: str) -> str:
    """Return `text` if it is a well-formed media type without parameters.

    Raises:
        RefusedInput: it is not (RFC 6838 §4.2).
    """
    if not _MEDIA_TYPE.match(text):
        raise RefusedInput(f"not a media type: {text[:200]!r}")
    return text


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says about another blob (OCI image-spec, descriptor.md).

    Attributes:
        media_type: the blob's type.
        digest: the blob's digest.
        size: the blob's exact length in bytes.
        annotations: free text of the document's author; never trusted as labels.
        platform: in an index, what the manifest was built for.
        urls: where else the blob may be had (foreign layers); never followed by default.
        artifact_type: of a manifest that is no image, what it is; "" otherwise.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""

    def __post_init__(self) -> None:
        check_media_type(self.media_type)
        if not 0 <= self.size <= _MAX_SIZE:
            raise RefusedInput(f"size of {self.digest} out of range: {self.size!r}")
