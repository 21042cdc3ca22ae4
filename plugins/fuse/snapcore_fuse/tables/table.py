"""One lazy layer's own tree in a few dozen bytes an inode, immutable, never unpacked as a whole."""

from __future__ import annotations

import stat
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Final

from snapcore.errors import DataLoss, InvalidArgument
from snapcore.oci import Digest
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore_fuse.tables.layout import (
    HEAD,
    NOTHING,
    OPAQUE,
    RECORD,
    XATTR,
    XATTR_COUNT,
    Head,
    Record,
)
from snapcore_fuse.tables.types import DataPlace, Status

STYLES: Final = tuple(WhiteoutStyle)
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)
_TYPE: Final = 0o170000


class Table:
    """Inodes by number, 0 being the root directory, and names that lead to them.

    Attributes:
        sources: digests of the layers that have the bytes of its files.
        style: how overlayfs is told that a directory is opaque.
        count: number of inodes.
        size: bytes of all files, each inode once.
    """

    def __init__(self, data: memoryview) -> None:
        """Take a table as `layout` says it lies, without a copy.

        Raises:
            DataLoss: it contradicts itself.
        """
        head = Head.read(data)
        ends = list(accumulate(head.sizes, initial=HEAD.size))
        parts = [data[start:end] for start, end in pairwise(ends)]
        self.data: Final = data
        self.count: Final = head.inodes
        self._records: Final = parts[0]
        self._offsets: Final = parts[1].cast("I")
        self._inodes: Final = parts[2].cast("I")
        self._names: Final = parts[3]
        self._targets: Final = parts[4]
        self._xattrs: Final = parts[5]
        try:
            self.style: Final = STYLES[head.style]
            lines = bytes(parts[6]).decode("ascii").splitlines()
            self.sources: Final = tuple(map(Digest.parse, lines))
        except (IndexError, UnicodeDecodeError, InvalidArgument) as error:
            raise DataLoss("a packed inode table names no whiteout style or no layers") from error
        self._check_names(head)
        self.size: Final = self._check_records(head)

    def _check_names(self, head: Head) -> None:
        """Check what lookups rely on, so that a table never leads out of itself."""
        offsets = self._offsets.tolist()
        if offsets[0] or offsets[-1] != head.name_bytes or offsets != sorted(offsets):
            raise DataLoss("a packed inode table has names out of order")
        if head.names and max(self._inodes) >= self.count:
            raise DataLoss("a packed inode table has a name of no inode")
        if not stat.S_ISDIR(self._record(0).mode):
            raise DataLoss("a packed inode table has a root that is no directory")

    def _check_records(self, head: Head) -> int:
        """Check what is said of inodes; return the bytes of all files."""
        total, sources = 0, len(self.sources)
        targets, xattr_bytes = head.target_bytes, head.xattr_bytes
        for mode, _, _, _, _, _, size, start, extra, xattrs in RECORD.iter_unpack(self._records):
            kind = mode & _TYPE
            if kind == stat.S_IFREG:
                total += size
                wrong = size and extra >= sources
            elif kind == stat.S_IFDIR:
                wrong = start + extra > head.names
            else:
                wrong = kind == stat.S_IFLNK and start + size > targets
            if wrong or (xattrs != NOTHING and xattrs >= xattr_bytes):
                raise DataLoss("a packed inode table has an inode that leads out of it")
        return total

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the number of the inode that a directory has under a name; None for nothing."""
        names = self._range(directory)
        position = bisect_left(names, name, key=self._name)
        if position < len(names) and self._name(names[position]) == name:
            return self._inodes[names[position]]
        return None

    def children(self, directory: int, after: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the names of a directory and the numbers of their inodes, sorted by name.

        Args:
            directory: its number; what is no directory has no names.
            after: how many of the first ones to leave out.
        """
        for position in self._range(directory)[after:]:
            yield self._name(position), self._inodes[position]

    def attributes(self, index: int) -> Status:
        """Return what stat(2) says of an inode."""
        record = self._record(index)
        device = record.extra if stat.S_IFMT(record.mode) in _DEVICES else 0
        return Status(
            record.mode,
            record.uid,
            record.gid,
            record.links,
            record.mtime,
            record.size,
            device,
        )

    def target(self, index: int) -> bytes:
        """Return the target of a symlink; empty for all else."""
        record = self._record(index)
        if not stat.S_ISLNK(record.mode):
            return b""
        return bytes(self._targets[record.start : record.start + record.size])

    def place(self, index: int) -> DataPlace | None:
        """Return where a file's bytes are; None if it has none."""
        record = self._record(index)
        if not stat.S_ISREG(record.mode) or record.extra == NOTHING:
            return None
        return DataPlace(record.extra, record.start, record.size)

    def opaque(self, index: int) -> bool:
        """Tell whether nothing of the layers below shines through a directory."""
        return bool(self._record(index).flags & OPAQUE)

    def own_xattrs(self, index: int) -> Mapping[bytes, bytes]:
        """Return the xattrs that an inode has from its layer."""
        record = self._record(index)
        return {} if record.xattrs == NOTHING else self._block(record.xattrs)

    def xattrs(self, index: int) -> Mapping[bytes, bytes]:
        """Return the xattrs of an inode, the mark of an opaque directory among them."""
        record = self._record(index)
        if record.xattrs == NOTHING and not record.flags:
            return {}
        found = {} if record.xattrs == NOTHING else self._block(record.xattrs)
        if record.flags & OPAQUE:
            found[self.style.opaque_xattr.encode()] = b"y"
        return found

    def _record(self, index: int) -> Record:
        return Record(*RECORD.unpack_from(self._records, index * RECORD.size))

    def _range(self, directory: int) -> range:
        record = self._record(directory)
        if not stat.S_ISDIR(record.mode):
            return range(0)
        return range(record.start, record.start + record.extra)

    def _name(self, position: int) -> bytes:
        return bytes(self._names[self._offsets[position] : self._offsets[position + 1]])

    def _block(self, offset: int) -> dict[bytes, bytes]:
        (count,) = XATTR_COUNT.unpack_from(self._xattrs, offset)
        offset += XATTR_COUNT.size
        found = {}
        for _ in range(count):
            name_size, value_size = XATTR.unpack_from(self._xattrs, offset)
            offset += XATTR.size
            value = offset + name_size
            end = value + value_size
            found[bytes(self._xattrs[offset:value])] = bytes(self._xattrs[value:end])
            offset = end
        return found
