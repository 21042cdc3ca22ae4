"""From the entries of a table of contents to entries of a tar and members of a blob.

Strict where readers of the field differ or could be led astray: the bytes of files come in the
order of the table, none of them twice; the chunks of a file cover it without gaps; each chunk
has a digest. Names and attributes follow the rules of the strict tar reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from snapcore.archive import Entry, EntryRules, EntryType, Limits
from snapcore.errors import RefusedInput
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.envelope import numbers
from snapcore_fuse.formats.estargz.members import DIGEST_SIZE, MAX_MEMBER, Members
from snapcore_fuse.formats.estargz.times import TimeParser
from snapcore_fuse.formats.estargz.toc import Table, TocEntry
from snapcore_fuse.formats.types import BlobRange, IndexedEntry

_KINDS: Final = {
    "dir": EntryType.DIRECTORY,
    "reg": EntryType.FILE,
    "symlink": EntryType.SYMLINK,
    "hardlink": EntryType.HARDLINK,
    "char": EntryType.CHARACTER,
    "block": EntryType.BLOCK,
    "fifo": EntryType.FIFO,
}
_CHUNK: Final = "chunk"
_PREFETCH: Final = (b".prefetch.landmark",)
# What writers put for bytes of a name that are no UTF-8: the name itself is lost.
_REPLACEMENT: Final = "\ufffd"
_SHOWN: Final = 200
_Xattrs = dict[str, bytes | None] | None


class Layout:
    """Goes once over a table.

    Attributes:
        prefetch: where the prefetch landmark is in the blob; 0 without one.
    """

    def __init__(self, place: BlobRange, limits: Limits) -> None:
        """Start; the bytes of all other files lie before the table's `place` in the blob."""
        self.prefetch = 0
        self._place_of_table = place
        self._limits = limits
        self._number = 0
        self._name = ""
        self._rules = EntryRules(limits, self._refuse)
        self._times = TimeParser(self._refuse)
        self._xattrs = msgspec.json.Decoder(_Xattrs)
        self._left = 0  # of the current file, not yet covered by chunks
        self._chunk_offset = 0  # in the current file
        self._stream = 0
        self._inner = 0  # end of the last chunk, in its uncompressed member
        self._starts = numbers("Q")
        self._offsets = numbers("Q")
        self._firsts = numbers("Q")
        self._inners = numbers("I")
        self._sizes = numbers("I")
        self._digests = bytearray()

    def entries(self, table: Table) -> Iterator[IndexedEntry]:
        """Yield the entries of a layer: those of the table, and the table itself.

        Whoever unpacks the layer finds the table and the landmarks among its files, and so must
        whoever reads it lazily.

        Raises:
            RefusedInput: one is malformed, hostile or past a budget.
        """
        for self._number, item in enumerate(table.entries):
            if item.type == _CHUNK:
                self._continue_file(item)
                continue
            self._end_file()
            self._name = item.name
            start = self._stream
            entry = self._entry(item)
            if entry.size:
                self._left, self._chunk_offset = entry.size, 0
                self._add_chunk(item, entry.size)
            if entry.path == _PREFETCH and entry.size:
                self.prefetch = item.offset
            yield IndexedEntry(entry, start if entry.size else 0)
        self._end_file()
        yield self._table(table)

    def members(self) -> Members:
        """Return where the bytes are; after the entries have been taken."""
        self._starts.append(self._stream)
        self._offsets.append(self._place_of_table.end)
        self._firsts.append(len(self._sizes))
        return Members(
            Cuts(self._starts),
            self._offsets,
            self._firsts,
            self._inners,
            self._sizes,
            bytes(self._digests),
        )

    def _table(self, table: Table) -> IndexedEntry:
        size = table.entry.size
        self._name, start = table.entry.path[-1].decode(), self._stream
        if table.inner + size > MAX_MEMBER:
            raise self._refuse(f"{size} bytes of one member; at most {MAX_MEMBER} can be served")
        self._starts.append(start)
        self._offsets.append(self._place_of_table.offset)
        self._firsts.append(len(self._sizes))
        self._inners.append(table.inner)
        self._sizes.append(size)
        self._digests += table.sha256
        self._stream += size
        return IndexedEntry(msgspec.structs.replace(table.entry, offset=start), start)

    def _entry(self, item: TocEntry) -> Entry:
        kind = _KINDS.get(item.type)
        if kind is None:
            raise self._refuse(f"unknown entry type {item.type[:_SHOWN]!r}")
        return self._rules.make(
            self._text(item.name),
            kind,
            item.mode,
            item.uid,
            item.gid,
            self._times.parse(item.modtime),
            item.size,
            self._text(item.link_name),
            (item.dev_major, item.dev_minor),
            self._read_xattrs(item.xattrs) if bytes(item.xattrs) else (),
            self._stream,
        )

    def _text(self, text: str) -> bytes:
        if _REPLACEMENT in text:
            raise self._refuse("a name was no UTF-8, and its writer has lost it")
        return text.encode()

    def _read_xattrs(self, raw: msgspec.Raw) -> tuple[tuple[bytes, bytes], ...]:
        try:
            values = self._xattrs.decode(raw) or {}
        except msgspec.MsgspecError as error:
            raise self._refuse(f"malformed xattrs: {error}") from error
        xattrs = tuple((self._text(name), value or b"") for name, value in values.items())
        self._rules.check_xattrs(xattrs)
        return xattrs

    def _continue_file(self, item: TocEntry) -> None:
        if item.name and item.name.rstrip("/") != self._name.rstrip("/"):
            raise self._refuse(f"it is followed by a chunk of {item.name[:_SHOWN]!r}")
        if not self._left:
            raise self._refuse("it is followed by a chunk, but has its bytes already")
        self._add_chunk(item, 0)

    def _end_file(self) -> None:
        if self._left:
            raise self._refuse(f"no chunk covers its last {self._left} bytes")

    def _add_chunk(self, item: TocEntry, file_size: int) -> None:
        size = item.chunk_size or self._left
        if item.chunk_offset != self._chunk_offset or not 0 < size <= self._left:
            raise self._refuse(
                f"a chunk of {item.chunk_size} bytes at byte {item.chunk_offset}, where"
                f" {self._left} bytes at byte {self._chunk_offset} are missing"
            )
        text = item.chunk_digest or (item.digest if size == file_size else "")
        self._digests += self._digest(text)
        self._place(item.offset, item.inner_offset, size)
        self._inners.append(item.inner_offset)
        self._sizes.append(size)
        self._left -= size
        self._chunk_offset += size
        self._stream += size
        if self._stream > self._limits.size:
            raise self._refuse(f"the layer has more than {self._limits.size} bytes of files")

    def _place(self, offset: int, inner: int, size: int) -> None:
        """Begin a member, or go on in the last one."""
        last = self._offsets[-1] if self._offsets else -1
        if inner < 0 or not 0 <= offset < self._place_of_table.offset or offset == inner == 0:
            raise self._refuse(f"a chunk at byte {offset} of the blob, {inner} of its member")
        if inner + size > MAX_MEMBER:
            raise self._refuse(
                f"{inner + size} bytes of one member; at most {MAX_MEMBER} can be served"
            )
        if offset < last or (offset == last and inner < self._inner):
            raise self._refuse(
                f"a chunk at byte {offset} of the blob, {inner} of its member: behind one at"
                f" byte {last} that ends at {self._inner} of its member"
            )
        if offset != last:
            self._starts.append(self._stream)
            self._offsets.append(offset)
            self._firsts.append(len(self._sizes))
        self._inner = inner + size

    def _digest(self, text: str) -> bytes:
        if not text:
            raise self._refuse("a chunk has no digest")
        algorithm, _, value = text.partition(":")
        try:
            digest = bytes.fromhex(value)
        except ValueError as error:
            raise self._refuse(f"a chunk's digest is malformed: {text[:_SHOWN]!r}") from error
        # Which also tells of upper case and of blanks.
        if algorithm != "sha256" or len(digest) != DIGEST_SIZE or digest.hex() != value:
            raise self._refuse(f"a chunk's digest is no sha256: {text[:_SHOWN]!r}")
        return digest

    def _refuse(self, why: str) -> RefusedInput:
        return RefusedInput(
            f"eStargz entry {self._name[:_SHOWN]!r} (number {self._number} of the table): {why}"
        )
