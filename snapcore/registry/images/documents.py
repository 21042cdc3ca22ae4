"""The documents that say which images a layout or an archive holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from snapcore.errors import InvalidArgument, RefusedInput
from snapcore.oci import Descriptor, Index, Reference, parse_document
from snapcore.oci.descriptor import OCI_INDEX
from snapcore.oci.manifest import decode_strictly

MARKER: Final = "oci-layout"
INDEX: Final = "index.json"
DOCKER_MANIFESTS: Final = "manifest.json"
LAYOUT_VERSION: Final = "1.0.0"
REF_NAME: Final = "org.opencontainers.image.ref.name"
"""The annotation of image-spec's annotations.md; most often a tag."""
IMAGE_NAME: Final = "io.containerd.image.name"
"""The annotation by which containerd and docker give an image's whole name."""


class _Marker(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image that a layout or an archive holds.

    Attributes:
        descriptor: the manifest or index.
        name: the whole name that its author gave it, normalised; "" for none.
        tag: the short name that its author gave it, "" for none.
    """

    descriptor: Descriptor
    name: str = ""
    tag: str = ""


def check_marker(data: bytes, where: str) -> None:
    """Check an `oci-layout` file (image-spec, image-layout.md).

    Raises:
        RefusedInput: malformed, or of a version that is not 1.0.0.
    """
    version = decode_strictly(data, _Marker, f"oci-layout file of {where!r}").image_layout_version
    if version != LAYOUT_VERSION:
        raise RefusedInput(
            f"{where!r}: image layout version {version[:50]!r} is not {LAYOUT_VERSION}"
        )


def layout_images(data: bytes, where: str) -> tuple[NamedImage, ...]:
    """Return what an `index.json` names, in its order.

    Raises:
        RefusedInput: malformed, or an image's whole name is no reference.
    """
    document = parse_document(data, OCI_INDEX)
    if not isinstance(document, Index):
        raise RefusedInput(f"{where!r}: index.json is not an index")
    return tuple(
        NamedImage(
            child,
            claimed_name(child.annotations.get(IMAGE_NAME, ""), where),
            child.annotations.get(REF_NAME, ""),
        )
        for child in document.manifests
    )


def claimed_name(text: str, where: str) -> str:
    """Return the normal form of the name that an archive gives an image, "" for "".

    Raises:
        RefusedInput: it is no reference.
    """
    try:
        return str(Reference.parse(text)) if text else ""
    except InvalidArgument as error:
        raise RefusedInput(f"{where!r} names an image {text[:200]!r}: {error}") from error
