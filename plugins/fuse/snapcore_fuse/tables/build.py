"""Packing the tree that a layer's entries describe."""

from __future__ import annotations

import stat
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from snapcore.archive import ApplyPolicy, Entry
from snapcore.archive.virtual import WHITEOUT, Attributes, Directory, Leaf, MergedView, describe
from snapcore.errors import InvalidArgument, ResourceExhausted
from snapcore.oci import Digest
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore_fuse.formats import IndexedEntry
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
from snapcore_fuse.tables.table import STYLES, Table
from snapcore_fuse.tables.types import StreamPlace

_MAX: Final = 0xFFFFFFFE
_WHITEOUT: Final = Record(stat.S_IFCHR, 0, 0, 0, 1, 0, 0, 0, 0, NOTHING)


def build(
    entries: Iterable[IndexedEntry],
    source: Digest,
    below: MergedView[StreamPlace],
    style: WhiteoutStyle,
    policy: ApplyPolicy | None = None,
) -> Table:
    """Return the table of a layer.

    Args:
        entries: of the layer, in order; gone through twice if they can be.
        source: digest of the layer's blob.
        below: what the layers below show, see `view`.
        style: how overlayfs is told of opaque directories; not `apply`.
        policy: what happens to what needs privilege; all is kept if None.

    Raises:
        RefusedInput: applying the layer would be refused as well.
        NotLazy: a hard link needs the bytes of an unpacked layer.
        InvalidArgument: the style is `apply`, which marks nothing.
        ResourceExhausted: more names than 32 bits count.
        SnapcoreError: an unpacked layer cannot be read.
    """
    if style is WhiteoutStyle.APPLY:
        raise InvalidArgument(f"whiteout style {style.value!r} has no marks; use an overlay's")
    located = _Located(entries, source)
    described = describe(iter(located) if isinstance(entries, Iterator) else located, below, policy)
    return _Packer(style).pack(described.root)


class _Located:
    """The entries with places in the view, as often as they can be gone through."""

    def __init__(self, entries: Iterable[IndexedEntry], source: Digest) -> None:
        self._entries = entries
        self._source = source

    def __iter__(self) -> Iterator[tuple[Entry, StreamPlace | None]]:
        source = self._source
        for indexed in self._entries:
            entry = indexed.entry
            yield entry, StreamPlace(source, indexed.start) if entry.size else None


class _Packer:
    def __init__(self, style: WhiteoutStyle) -> None:
        self._style = style
        self._records = bytearray()
        self._count = 0
        self._offsets = array("I", [0])
        self._inodes = array("I")
        self._names = bytearray()
        self._targets = bytearray()
        self._xattrs = bytearray()
        self._blocks: dict[Sequence[tuple[bytes, bytes]], int] = {}
        self._sources: dict[Digest, int] = {}
        self._linked: dict[Leaf[StreamPlace], int] = {}

    def pack(self, root: Directory[StreamPlace]) -> Table:
        """Return the packed tree: directories breadth first, names sorted."""
        pending = deque([(self._directory(root), root)])
        while pending:
            number, directory = pending.popleft()
            first = len(self._inodes)
            for name, node in sorted(directory.children.items()):
                if isinstance(node, Directory):
                    child = self._directory(node)
                    pending.append((child, node))
                elif node is WHITEOUT:
                    child = self._add(_WHITEOUT)
                else:
                    child = self._leaf(node)
                self._name(name, child)
            self._fill(number, directory, first, len(self._inodes) - first)
        return Table(memoryview(self._joined()))

    def _joined(self) -> bytes:
        sources = "".join(f"{source}\n" for source in self._sources).encode()
        parts = (
            self._records,
            self._offsets.tobytes(),
            self._inodes.tobytes(),
            self._names,
            self._targets,
            self._xattrs,
            sources,
        )
        head = Head(
            self._count,
            len(self._inodes),
            len(self._names),
            len(self._targets),
            len(self._xattrs),
            len(sources),
            STYLES.index(self._style),
        )
        return b"".join((HEAD.pack(*head), *parts))

    def _add(self, record: Record) -> int:
        if self._count >= _MAX:
            raise ResourceExhausted(f"a layer of more than {_MAX} inodes cannot be lazy")
        self._records += RECORD.pack(*record)
        self._count += 1
        return self._count - 1

    def _name(self, name: bytes, number: int) -> None:
        self._inodes.append(number)
        self._names += name
        if len(self._names) > _MAX:
            raise ResourceExhausted(f"a layer with names of more than {_MAX} bytes cannot be lazy")
        self._offsets.append(len(self._names))

    def _directory(self, directory: Directory[StreamPlace]) -> int:
        return self._add(self._directory_record(directory.attributes, directory.opaque, 0, 0))

    def _fill(self, number: int, directory: Directory[StreamPlace], first: int, count: int) -> None:
        record = self._directory_record(directory.attributes, directory.opaque, first, count)
        RECORD.pack_into(self._records, number * RECORD.size, *record)

    def _directory_record(self, found: Attributes, opaque: bool, first: int, count: int) -> Record:
        return Record(
            stat.S_IFDIR | found.mode,
            OPAQUE if opaque else 0,
            found.uid,
            found.gid,
            1,
            found.mtime,
            0,
            first,
            count,
            self._xattr_block(found.xattrs),
        )

    def _leaf(self, leaf: Leaf[StreamPlace]) -> int:
        if leaf.links > 1:
            known = self._linked.get(leaf)
            if known is not None:
                return known
        start, extra = self._data(leaf)
        number = self._add(
            Record(
                leaf.mode,
                0,
                leaf.uid,
                leaf.gid,
                leaf.links,
                leaf.mtime,
                leaf.size,
                start,
                extra,
                self._xattr_block(leaf.xattrs),
            )
        )
        if leaf.links > 1:
            self._linked[leaf] = number
        return number

    def _data(self, leaf: Leaf[StreamPlace]) -> tuple[int, int]:
        if leaf.target:
            start = len(self._targets)
            self._targets += leaf.target
            return start, 0
        if leaf.device:
            return 0, leaf.device
        if leaf.place is None or not leaf.size:
            return 0, NOTHING
        return leaf.place.start, self._sources.setdefault(leaf.place.layer, len(self._sources))

    def _xattr_block(self, xattrs: Sequence[tuple[bytes, bytes]]) -> int:
        if not xattrs:
            return NOTHING
        key = tuple(sorted(xattrs))
        known = self._blocks.get(key)
        if known is None:
            known = self._blocks[key] = len(self._xattrs)
            self._xattrs += XATTR_COUNT.pack(len(key))
            for name, value in key:
                self._xattrs += XATTR.pack(len(name), len(value)) + name + value
        return known
