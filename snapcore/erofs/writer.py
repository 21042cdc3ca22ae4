"""From a tree that is only described to an EROFS image of its metadata.

The bytes of files are not copied: each file points to where they lie in another file, a layer's
tar above all, which is given to the mount as a device. Directories are written breadth first, in
one pass: when one's turn comes, its children are numbered and appended, and then its own entries,
which point to them.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from snapcore.archive.virtual import Attributes, Leaf, MergedDirectory
from snapcore.erofs.entries import Head, Shape, packed, shape_of
from snapcore.erofs.layout import (
    CHUNK,
    CHUNK_BITS,
    CHUNK_INDEXES,
    CHUNKED,
    EXTENDED,
    FILE_TYPES,
    INLINE,
    INODE,
    MAX_TARGET,
    PLAIN,
    SLOT,
    SUPER,
    SUPER_OFFSET,
    aligned,
    checked_bytes,
    crc32c,
    encode_device,
    xattr_words,
)
from snapcore.erofs.stream import Stream
from snapcore.erofs.superblock import MAX_BLOCK, device_slots, super_block
from snapcore.erofs.tree import Tree, attributes_of, children, count_links
from snapcore.erofs.types import ImageOptions, ImageSummary, Place
from snapcore.erofs.xattrs import XattrTable
from snapcore.errors import InvalidArgument, RefusedInput, ResourceExhausted, from_os_error

_SECOND: Final = 1_000_000_000
_MAX_NUMBER: Final = 0xFFFFFFFF
_TYPE: Final = 0o170000
_DIRECTORY: Final = FILE_TYPES[stat.S_IFDIR]
_DEFAULT: Final = ImageOptions()


def write_image(
    root: Tree,
    devices: Mapping[int, int],
    file: int,
    options: ImageOptions = _DEFAULT,
    checkpoint: Callable[[], None] = lambda: None,
) -> ImageSummary:
    """Write the image of a tree; the same tree gives the same bytes.

    Args:
        root: one layer's own tree, whose whiteouts and opaque marks become those of overlayfs; or
            several merged, where none are left.
        devices: how many bytes each file has that holds some of the tree's files, by the number
            that places name it by, in the order in which the mount is given them.
        file: an empty file, open for reading and writing.
        options: size of blocks, and marks.
        checkpoint: called for each directory; what it raises ends the work.

    Raises:
        InvalidArgument: a file's bytes lie in no device, or not at a block; an xattr that EROFS
            does not know; or too many devices.
        RefusedInput: a name or a symlink's target is longer than any kernel takes.
        ResourceExhausted: more than the format can address.
        SnapcoreError: writing failed.
    """
    try:
        return _Writer(devices, file, options).write(root, checkpoint)
    except OSError as error:
        raise from_os_error(error, "EROFS image") from error


@dataclass(slots=True)
class _Pending:
    """A directory whose inode is written, and whose entries are not.

    Attributes:
        tree: the directory.
        position: of its inode.
        parent: number of its parent's inode.
        shape: how its entries are cut into blocks.
        attributes: of its inode.
        xattrs: of its inode, packed.
        number: counted from 0 on.
    """

    tree: Tree
    position: int
    parent: int
    shape: Shape
    attributes: Attributes
    xattrs: bytes
    number: int


class _Writer:
    def __init__(self, devices: Mapping[int, int], file: int, options: ImageOptions) -> None:
        self._devices: Final = devices
        self._slots: Final = {number: slot for slot, number in enumerate(devices, 1)}
        self._file: Final = file
        self._options: Final = options
        self._bits: Final = options.block_bits
        self._block: Final = 1 << options.block_bits
        self._stream: Final = Stream(file)
        self._xattrs: Final = XattrTable()
        self._linked: Final[dict[Leaf[Place], int]] = {}
        self._links: dict[Leaf[Place], int] | None = None
        self._inodes = 0

    def write(self, root: Tree, checkpoint: Callable[[], None]) -> ImageSummary:
        """See `write_image`."""
        slots = device_slots(self._devices, self._bits)
        if isinstance(root, MergedDirectory):
            self._links = count_links(root)
        self._stream.skip(SUPER_OFFSET + SUPER.size)
        self._stream.append(slots)
        first = self._directory(root, None)
        waiting = deque([first])
        while waiting:
            checkpoint()
            self._fill(waiting.popleft(), waiting)
        area = self._xattrs.area
        xattr_block = self._blocks(area) if area else 0
        self._stream.skip(aligned(self._stream.position, self._block))
        blocks = self._stream.position >> self._bits
        if blocks > MAX_BLOCK:
            raise ResourceExhausted(f"an image of {blocks} blocks is more than EROFS can address")
        self._super(first.position // SLOT, blocks, xattr_block)
        self._stream.flush()
        return ImageSummary(self._inodes, self._stream.position)

    def _directory(self, tree: Tree, parent: int | None) -> _Pending:
        """Append a directory's inode, and room for what comes behind it."""
        attributes = attributes_of(tree, self._options.style)
        xattrs = self._xattrs.body(attributes.xattrs)
        shape = shape_of(children(tree), self._bits)
        position = self._place(INODE.size + len(xattrs), shape.tail)
        number = self._count()
        self._stream.skip(position + INODE.size + len(xattrs) + shape.tail)
        own = position // SLOT
        return _Pending(
            tree, position, own if parent is None else parent, shape, attributes, xattrs, number
        )

    def _fill(self, pending: _Pending, waiting: deque[_Pending]) -> None:
        """Write a directory's children, and then its entries."""
        own = pending.position // SLOT
        entries = [Head(b".", own, _DIRECTORY), Head(b"..", pending.parent, _DIRECTORY)]
        for name, node in children(pending.tree):
            if isinstance(node, Leaf):
                inode = self._leaf(node)
                kind = FILE_TYPES[node.mode & _TYPE]
            else:
                child = self._directory(node, own)
                waiting.append(child)
                inode, kind = child.position // SLOT, _DIRECTORY
            entries.append(Head(name, inode, kind))
        blocks = list(packed(entries, pending.shape))
        full = [block.ljust(self._block, b"\0") for block in blocks[: pending.shape.full]]
        first = self._blocks(b"".join(full)) if full else 0
        tail = blocks[-1] if pending.shape.tail else b""
        layout = INLINE if pending.shape.tail else PLAIN
        attributes = pending.attributes
        inode_bytes = self._packed_inode(
            stat.S_IFDIR | attributes.mode,
            layout,
            pending.xattrs,
            pending.shape.size,
            first,
            pending.number,
            attributes.uid,
            attributes.gid,
            attributes.mtime,
            2 + pending.shape.directories,
        )
        self._stream.patch(pending.position, inode_bytes + pending.xattrs + tail)

    def _leaf(self, leaf: Leaf[Place]) -> int:
        """Append the inode of what is no directory, unless it is there; return its number."""
        links = leaf.links if self._links is None else self._links.get(leaf, 1)
        if links == 1:
            return self._new_leaf(leaf, links)
        known = self._linked.get(leaf)
        if known is None:
            known = self._linked[leaf] = self._new_leaf(leaf, links)
        return known

    def _new_leaf(self, leaf: Leaf[Place], links: int) -> int:
        xattrs = self._xattrs.body(leaf.xattrs)
        head = INODE.size + len(xattrs)
        layout, data, behind = self._data(leaf, head)
        position = self._place(head, len(behind) if layout == INLINE else 0)
        self._stream.skip(position)
        inode = self._packed_inode(
            leaf.mode, layout, xattrs, leaf.size, data, self._count(),
            leaf.uid, leaf.gid, leaf.mtime, links,
        )  # fmt: skip
        self._stream.append(inode + xattrs + behind)
        return position // SLOT

    def _data(self, leaf: Leaf[Place], head: int) -> tuple[int, int, bytes]:
        """Return how the bytes of an inode lie, what it says of that, and what comes behind it."""
        kind = leaf.mode & _TYPE
        if kind == stat.S_IFREG and leaf.size:
            return (
                CHUNKED,
                self._chunk_format(leaf.size),
                bytes(-head % CHUNK.size) + self._chunk(leaf),
            )
        if kind != stat.S_IFLNK:
            return PLAIN, encode_device(leaf.device), b""
        if len(leaf.target) > MAX_TARGET:
            raise RefusedInput(f"a symlink's target of {len(leaf.target)} bytes")
        if len(leaf.target) <= self._block - SLOT:
            return INLINE, 0, leaf.target
        return PLAIN, self._blocks(leaf.target), b""

    def _blocks(self, data: bytes) -> int:
        """Append bytes in blocks of their own; return the number of the first one."""
        self._stream.skip(aligned(self._stream.position, self._block))
        first = self._stream.position >> self._bits
        self._stream.append(data)
        return first

    def _place(self, head: int, tail: int) -> int:
        """Return where an inode can begin whose last `tail` bytes must be in one block."""
        position = aligned(self._stream.position, SLOT)
        start = position + head
        if tail and start >> self._bits != (start + tail - 1) >> self._bits:
            position = aligned(aligned(start, self._block) - head, SLOT)
        return position

    def _chunk_format(self, size: int) -> int:
        # One piece of any size that holds the whole file.
        bits = max(0, (size - 1).bit_length() - self._bits)
        if bits > CHUNK_BITS:
            raise ResourceExhausted(f"a file of {size} bytes is more than EROFS can have")
        return CHUNK_INDEXES | bits

    def _chunk(self, leaf: Leaf[Place]) -> bytes:
        place = leaf.place
        if place is None or place.device not in self._slots:
            raise InvalidArgument(f"the bytes of a file are in no device: {place}")
        device, offset = place
        end = self._devices[device]
        if offset & (self._block - 1) or offset < 0 or offset + leaf.size > end:
            raise InvalidArgument(
                f"{leaf.size} bytes at {offset} do not begin at a block, or are past the end of"
                f" device {device}, which has {end}"
            )
        return CHUNK.pack(0, self._slots[device], offset >> self._bits)

    def _packed_inode(
        self,
        mode: int,
        layout: int,
        xattrs: bytes,
        size: int,
        data: int,
        number: int,
        uid: int,
        gid: int,
        mtime: int,
        links: int,
    ) -> bytes:
        seconds, nanoseconds = divmod(mtime, _SECOND)
        return INODE.pack(
            EXTENDED | layout << 1, xattr_words(len(xattrs)), mode, 0, size, data, number + 1,
            uid, gid, seconds, nanoseconds, links, 0, 0,
        )  # fmt: skip

    def _count(self) -> int:
        self._inodes += 1
        if self._inodes >= _MAX_NUMBER:
            raise ResourceExhausted(f"more than {_MAX_NUMBER} inodes")
        return self._inodes - 1

    def _super(self, root: int, blocks: int, xattr_block: int) -> None:
        found = super_block(
            self._options, root, self._inodes, blocks, xattr_block, len(self._devices)
        )
        self._stream.patch(SUPER_OFFSET, SUPER.pack(*found))
        covered = self._stream.read(SUPER_OFFSET, checked_bytes(self._block))
        self._stream.patch(SUPER_OFFSET, SUPER.pack(*found._replace(checksum=crc32c(covered))))
