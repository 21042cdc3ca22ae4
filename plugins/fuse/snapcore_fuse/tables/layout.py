"""How a table lies in memory and in its file, in the byte order of this machine.

One record for each inode, the root first. The names of a directory lie together, sorted; their
offsets and inodes are arrays beside them, so that bisection finds a name:

    head      counts and lengths of what follows, see `Head`
    records   one `RECORD` for each inode
    offsets   for each name its offset among the names, and the end: 32 bits each
    inodes    for each name the number of its inode: 32 bits each
    names     of all directories, one after the other
    targets   of all symlinks
    xattrs    blocks of xattrs, each kept once: a count, then sizes, name and value of each
    sources   digests of the layers that have the bytes, one a line
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from snapcore.errors import DataLoss

HEAD: Final = struct.Struct("=IIQQQII")
RECORD: Final = struct.Struct("=HHIIIqQQII")
XATTR_COUNT: Final = struct.Struct("=H")
XATTR: Final = struct.Struct("=HI")
NUMBER: Final = 4
"""Bytes of an offset and of an inode's number."""

NOTHING: Final = 0xFFFFFFFF
"""In place of the source of a file without bytes, and of the xattrs of what has none."""
OPAQUE: Final = 1
"""Flag of a directory through which nothing of the layers below shines."""


class Record(NamedTuple):
    """One inode.

    Attributes:
        mode: as `st_mode`.
        flags: `OPAQUE` or 0.
        uid: owner.
        gid: group.
        links: number of names.
        mtime: nanoseconds since the epoch.
        size: of a file or a symlink's target.
        start: of a file: in the stream; of a symlink: among the targets; of a directory: the
            number of its first name.
        extra: of a file: number of its source or NOTHING; of a directory: how many names; of a
            device: its number.
        xattrs: offset of its block among the xattrs, or NOTHING.
    """

    mode: int
    flags: int
    uid: int
    gid: int
    links: int
    mtime: int
    size: int
    start: int
    extra: int
    xattrs: int


class Head(NamedTuple):
    """What is how long.

    Attributes:
        inodes: number of inodes, at least 1.
        names: number of names.
        name_bytes: length of all names.
        target_bytes: length of all targets.
        xattr_bytes: length of all xattrs.
        source_bytes: length of the sources.
        style: position of the whiteout style among the members of its enum.
    """

    inodes: int
    names: int
    name_bytes: int
    target_bytes: int
    xattr_bytes: int
    source_bytes: int
    style: int

    @property
    def sizes(self) -> Sequence[int]:
        """Lengths of the sections behind the head, in their order."""
        return (
            self.inodes * RECORD.size,
            (self.names + 1) * NUMBER,
            self.names * NUMBER,
            self.name_bytes,
            self.target_bytes,
            self.xattr_bytes,
            self.source_bytes,
        )

    @classmethod
    def read(cls, data: memoryview) -> Self:
        """Return the head of a table.

        Raises:
            DataLoss: the table is not as long as it says.
        """
        if len(data) < HEAD.size:
            raise DataLoss("a packed inode table is cut off")
        head = cls(*HEAD.unpack_from(data))
        if not head.inodes or HEAD.size + sum(head.sizes) != len(data):
            raise DataLoss("a packed inode table is not as long as it says")
        return head
