"""The values of the EROFS room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from snapcore.erofs.layout import BLOCK_BITS
from snapcore.errors import InvalidArgument
from snapcore.oci.whiteout import WhiteoutStyle


class Place(NamedTuple):
    """Where the bytes of a file are.

    Attributes:
        device: number of the file that has them, among those that the image is written with.
        offset: of the first one, in bytes; a multiple of the size of a block.
    """

    device: int
    offset: int


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an image is written.

    Attributes:
        block_bits: logarithm of the size of a block. Tar aligns its files to 512 bytes, so that
            only blocks of that size can point into one; other programs read 4096 alone.
        style: how overlayfs is told of opaque directories.
        uuid: 16 bytes that tell images apart.
        volume: 15 bytes of a name at most.
    """

    block_bits: int = 9
    style: WhiteoutStyle = WhiteoutStyle.OVERLAY
    uuid: bytes = bytes(16)
    volume: bytes = b"snapcore"

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            InvalidArgument: blocks of a size that cannot be mounted, the style `apply`, or an
                identity of the wrong length.
        """
        if self.block_bits not in BLOCK_BITS:
            raise InvalidArgument(f"blocks of 2**{self.block_bits} bytes cannot be mounted")
        if self.style is WhiteoutStyle.APPLY:
            raise InvalidArgument(f"whiteout style {self.style.value!r} has no marks")
        if len(self.uuid) != 16 or len(self.volume) > 15:
            raise InvalidArgument("a UUID has 16 bytes, and the name of a volume 15 at most")


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What was written.

    Attributes:
        inodes: how many.
        size: bytes of the image.
    """

    inodes: int
    size: int
