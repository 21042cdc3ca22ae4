"""An inode as it is read, and where its bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from snapcore.erofs.layout import INODE, SLOT


class Extent(NamedTuple):
    """Some bytes of a file.

    Attributes:
        device: number of the file that has them; 0 for the image, None for a hole.
        offset: of the first one there.
        size: how many.
    """

    device: int | None
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Inode:
    """An inode.

    Attributes:
        number: by which directories name it.
        mode: as `st_mode`.
        uid: owner.
        gid: group.
        mtime: nanoseconds since the epoch.
        size: in bytes.
        links: how many names it has.
        device: major and minor number; (0, 0) for what is no device.
        layout: how its bytes lie.
        data: block of its bytes, or format of its pieces.
        xattr_size: bytes of xattrs behind it.
    """

    number: int
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    links: int
    device: tuple[int, int]
    layout: int
    data: int
    xattr_size: int

    @property
    def position(self) -> int:
        """Where it is in the image, in bytes."""
        return self.number * SLOT

    @property
    def end(self) -> int:
        """Where its xattrs end, in bytes."""
        return self.position + INODE.size + self.xattr_size
