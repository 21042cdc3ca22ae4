"""An image on its way out of the content store: to a file or to a registry."""

from __future__ import annotations

from dataclasses import dataclass

from snapcore.oci import Descriptor


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One image and everything it needs.

    Attributes:
        name: a normalised reference.
        root: the manifest or index that the name shall mean there.
        blobs: all of its blobs, each once, children before parents; the root is the last.
    """

    name: str
    root: Descriptor
    blobs: tuple[Descriptor, ...]
