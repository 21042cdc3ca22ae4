"""Reading an EROFS image without the kernel: only what our writer writes, and nothing on trust.

Whatever bytes it is given, it raises DataLoss or answers; it never reads outside of them.
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from snapcore.erofs.inode import Extent, Inode
from snapcore.erofs.layout import (
    BLOCK_BITS,
    CHUNK,
    CHUNK_BITS,
    CHUNK_INDEXES,
    CHUNKED,
    COMPAT_CHECKSUM,
    DEVICE,
    DIRENT,
    EXTENDED,
    FILE_TYPES,
    HOLE,
    INCOMPAT_CHUNKED,
    INCOMPAT_DEVICES,
    INLINE,
    INODE,
    MAGIC,
    MAX_TARGET,
    PLAIN,
    SHARED,
    SLOT,
    SUPER,
    SUPER_OFFSET,
    XATTR_ENTRY,
    XATTR_HEADER,
    XATTR_PREFIXES,
    RawInode,
    SuperBlock,
    aligned,
    checked_bytes,
    crc32c,
    decode_device,
    xattr_size,
)
from snapcore.errors import DataLoss, NotFound

_SECOND: Final = 1_000_000_000
_PREFIXES: Final = {number: prefix for prefix, number in XATTR_PREFIXES}
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)


class Image:
    """An EROFS image.

    Attributes:
        data: its bytes.
        super_block: what it says of itself.
        block: bytes of a block.
        devices: for each device, how many bytes it has, rounded up to a block.
        root: its root directory.
    """

    def __init__(self, data: memoryview) -> None:
        """Take the bytes of an image, without a copy.

        Raises:
            DataLoss: they are none, damaged, or use what we do not write.
        """
        self.data: Final = data
        found = SuperBlock._make(SUPER.unpack(self._range(SUPER_OFFSET, SUPER.size, "superblock")))
        self.super_block: Final = found
        if found.magic != MAGIC:
            raise DataLoss("not an EROFS image")
        if found.block_bits not in BLOCK_BITS:
            raise DataLoss(f"an EROFS image with blocks of 2**{found.block_bits} bytes")
        self.block: Final = 1 << found.block_bits
        self._check_super()
        self.devices: Final = tuple(self._device_sizes())
        self.root: Final = self.inode(found.root)
        if not stat.S_ISDIR(self.root.mode):
            raise DataLoss("the root of an EROFS image is no directory")

    def _check_super(self) -> None:
        found = self.super_block
        if found.incompat & ~(INCOMPAT_CHUNKED | INCOMPAT_DEVICES):
            raise DataLoss(f"an EROFS image with features {found.incompat:#x} that we do not read")
        if found.blocks * self.block > len(self.data):
            raise DataLoss(f"an EROFS image of {found.blocks} blocks is cut off")
        if found.meta_block or found.directory_bits or found.prefixes:
            raise DataLoss("an EROFS image with a layout that we do not read")
        if found.compat & COMPAT_CHECKSUM:
            size = checked_bytes(self.block)
            covered = bytes(self._range(SUPER_OFFSET, size, "superblock"))
            without = covered[:4] + bytes(4) + covered[8:]
            if crc32c(without) != found.checksum:
                raise DataLoss("the superblock of an EROFS image has a wrong checksum")

    def _device_sizes(self) -> Iterator[int]:
        for index in range(self.super_block.devices):
            offset = (self.super_block.device_slot + index) * DEVICE.size
            slot = self._range(offset, DEVICE.size, f"device {index + 1}")
            yield DEVICE.unpack(slot)[1] << self.super_block.block_bits

    def inode(self, number: int) -> Inode:
        """Return an inode.

        Raises:
            DataLoss: there is none, or it is malformed.
        """
        raw = RawInode(*self._unpack(INODE, number * SLOT, f"inode {number}"))
        layout = raw.format >> 1
        if not raw.format & EXTENDED or layout not in (PLAIN, INLINE, CHUNKED):
            raise DataLoss(f"inode {number} is of format {raw.format}, which we do not read")
        kind = stat.S_IFMT(raw.mode)
        if kind not in FILE_TYPES or raw.nanoseconds >= _SECOND:
            raise DataLoss(f"inode {number} has mode {raw.mode:o} and {raw.nanoseconds} ns")
        return Inode(
            number=number,
            mode=raw.mode,
            uid=raw.uid,
            gid=raw.gid,
            mtime=raw.mtime * _SECOND + raw.nanoseconds,
            size=raw.size,
            links=raw.links,
            device=decode_device(raw.data) if kind in _DEVICES else (0, 0),
            layout=layout,
            data=raw.data,
            xattr_size=xattr_size(raw.xattr_words),
        )

    def children(self, directory: Inode) -> Iterator[tuple[bytes, int, int]]:
        """Yield a directory's entries in their order: name, number and type of the inode.

        Raises:
            DataLoss: it is malformed.
        """
        for block in self._blocks(directory):
            yield from self._block_entries(directory, block)

    def _blocks(self, directory: Inode) -> Iterator[Extent]:
        """Yield where the blocks of a directory are, each of which stands for itself."""
        if not stat.S_ISDIR(directory.mode):
            raise DataLoss(f"inode {directory.number} is no directory")
        for device, offset, size in self.extents(directory):
            if device != 0 or offset + size > len(self.data):
                raise DataLoss(f"directory {directory.number} is outside of the EROFS image")
            for start in range(0, size, self.block):
                yield Extent(0, offset + start, min(self.block, size - start))

    def _first_name(self, directory: Inode, number: int) -> bytes:
        return next(self._block_entries(directory, self._block(directory, number)))[0]

    def _block(self, directory: Inode, number: int) -> Extent:
        """Return where a block of a directory is, by its number in the directory."""
        start = number * self.block
        size = min(self.block, directory.size - start)
        if directory.layout == INLINE and size < self.block:
            return Extent(0, directory.end, size)
        if directory.layout == CHUNKED:
            raise DataLoss(f"directory {directory.number} is in pieces")
        return Extent(0, directory.data * self.block + start, size)

    def _block_entries(self, directory: Inode, block: Extent) -> Iterator[tuple[bytes, int, int]]:
        what = f"directory {directory.number}"
        _, offset, size = block
        data = bytes(self._range(offset, size, what))
        if size < DIRENT.size:
            raise DataLoss(f"{what} has a block of {size} bytes")
        end_of_heads = DIRENT.unpack_from(data)[1]
        if not DIRENT.size <= end_of_heads <= size or end_of_heads % DIRENT.size:
            raise DataLoss(f"{what} has names at {end_of_heads} in its block")
        heads = list(DIRENT.iter_unpack(data[:end_of_heads]))
        starts = [name for _, name, _, _ in heads]
        # What follows the last name in a block that is not the last one is zeros.
        ends = [*starts[1:], len(data.rstrip(b"\0"))]
        for (number, start, kind, _), end in zip(heads, ends, strict=True):
            if not end_of_heads <= start < end <= size:
                raise DataLoss(f"{what} has a name from {start} to {end}")
            yield data[start:end], number, kind

    def find(self, directory: Inode, name: bytes) -> int | None:
        """Return the number of what a directory has under a name, by bisection; None for nothing.

        Raises:
            DataLoss: it is malformed.
        """
        if not stat.S_ISDIR(directory.mode):
            raise DataLoss(f"inode {directory.number} is no directory")
        blocks = range(-(-directory.size // self.block))
        place = bisect_right(blocks, name, key=lambda block: self._first_name(directory, block))
        if not place:
            return None
        for found, number, _ in self._block_entries(directory, self._block(directory, place - 1)):
            if found == name:
                return number
        return None

    def lookup(self, path: tuple[bytes, ...]) -> Inode:
        """Return what is at a path; symlinks are not followed.

        Raises:
            NotFound: nothing is.
            DataLoss: the image is malformed.
        """
        here = self.root
        for index, name in enumerate(path):
            number = self.find(here, name) if stat.S_ISDIR(here.mode) else None
            if number is None:
                shown = b"/".join(path[: index + 1]).decode(errors="backslashreplace")
                raise NotFound(f"there is no {'/' + shown!r} in the image")
            here = self.inode(number)
        return here

    def target(self, symlink: Inode) -> bytes:
        """Return the target of a symlink.

        Raises:
            DataLoss: it is malformed.
        """
        if not stat.S_ISLNK(symlink.mode) or not 0 < symlink.size <= MAX_TARGET:
            raise DataLoss(f"inode {symlink.number} is no symlink, or has no target")
        what = f"target of symlink {symlink.number}"
        return b"".join(bytes(self._range(e.offset, e.size, what)) for e in self.extents(symlink))

    def extents(self, inode: Inode) -> Iterator[Extent]:
        """Yield where an inode's bytes are, in their order.

        Raises:
            DataLoss: it is malformed.
        """
        if inode.layout == CHUNKED:
            yield from self._pieces(inode)
            return
        tail = inode.size % self.block if inode.layout == INLINE else 0
        whole = inode.size - tail
        if whole:
            yield Extent(0, inode.data * self.block, whole)
        if tail:
            if inode.end // self.block != (inode.end + tail - 1) // self.block:
                raise DataLoss(f"what is behind inode {inode.number} is in two blocks")
            yield Extent(0, inode.end, tail)

    def _pieces(self, inode: Inode) -> Iterator[Extent]:
        if not inode.data & CHUNK_INDEXES or inode.data & ~(CHUNK_INDEXES | CHUNK_BITS):
            raise DataLoss(f"inode {inode.number} has pieces of format {inode.data:#x}")
        piece = self.block << (inode.data & CHUNK_BITS)
        position = aligned(inode.end, CHUNK.size)
        for start in range(0, inode.size, piece):
            _, device, block = self._unpack(CHUNK, position, f"pieces of inode {inode.number}")
            size = min(piece, inode.size - start)
            if block == HOLE:
                yield Extent(None, 0, size)
            elif device > len(self.devices):
                raise DataLoss(f"inode {inode.number} has bytes in device {device}")
            else:
                yield Extent(device, block * self.block, size)
            position += CHUNK.size

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """Return the xattrs of an inode.

        Raises:
            DataLoss: they are malformed.
        """
        if not inode.xattr_size:
            return {}
        what = f"xattrs of inode {inode.number}"
        position = inode.position + INODE.size
        _, shared = self._unpack(XATTR_HEADER, position, what)
        position += XATTR_HEADER.size
        found: dict[bytes, bytes] = {}
        for _ in range(shared):
            (number,) = self._unpack(SHARED, position, what)
            area = self.super_block.xattr_block * self.block
            name, value, _ = self._xattr(area + number * 4, what)
            found[name] = value
            position += SHARED.size
        while position < inode.end:
            name, value, position = self._xattr(position, what)
            found[name] = value
        if position != inode.end:
            raise DataLoss(f"{what} do not end where they should")
        return found

    def _xattr(self, position: int, what: str) -> tuple[bytes, bytes, int]:
        length, prefix, size = self._unpack(XATTR_ENTRY, position, what)
        if prefix not in _PREFIXES:
            raise DataLoss(f"{what} have prefix {prefix}")
        start = position + XATTR_ENTRY.size
        name = _PREFIXES[prefix] + bytes(self._range(start, length, what))
        value = bytes(self._range(start + length, size, what))
        return name, value, aligned(start + length + size, 4)

    def _unpack(self, form: struct.Struct, offset: int, what: str) -> tuple[int, ...]:
        return form.unpack(self._range(offset, form.size, what))

    def _range(self, offset: int, size: int, what: str) -> memoryview:
        if offset < 0 or offset + size > len(self.data):
            raise DataLoss(f"{what} is outside of the EROFS image")
        return self.data[offset : offset + size]
