"""The strict tar reader: one pass over a layer's uncompressed stream, entry by entry.

Readers of the field disagree on malformed archives, and each disagreement lets a layer show one
tree to a scanner and another to a runtime. So what is ambiguous is refused, with the entry's
name and the position of its header in the uncompressed stream.

Pinned choices, where the format leaves room:
- A NUL type whose name ends in `/` is a directory (the v7 convention); a `0` or `7` type whose
  name ends in `/` is refused, since readers split on it.
- Payload on anything but a regular file is refused, whatever the type; one effective size
  drives both what is read and what is skipped.
- Of `g` headers only comments pass. `x`, `L` and `K` stand at most once before an entry, `L`
  beside a PAX path or `K` beside a PAX linkpath is refused, and so is `K` before a non-link.
- The end is two zero blocks and then zeros only, a single zero block at the very end of the
  stream, or the end of the stream on an entry's boundary.
- A time's digits past the nanosecond are cut off; permission bits are taken from the mode and
  its file type bits dropped; device numbers are read for devices only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Self

from snapcore.archive.blocks import BlockReader
from snapcore.archive.extra import Extra
from snapcore.archive.header import BLOCK, Header, HeaderDecoder
from snapcore.archive.pax import check_global
from snapcore.archive.rules import DEVICES, EntryRules
from snapcore.archive.types import Entry, EntryType, Limits
from snapcore.errors import RefusedInput

_ZEROS: Final = bytes(BLOCK)
_TYPES: Final = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,
    b"1": EntryType.HARDLINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER,
    b"4": EntryType.BLOCK,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
}
_EXTRA: Final = (b"x", b"g", b"L", b"K")
_GLOBAL: Final = b"g"
_SPARSE: Final = b"S"
_NO_DEVICE: Final = (0, 0)
_SHOWN: Final = 200


class TarReader:
    """Iterates over the entries of a stream, up to and including its verified end.

    The payload of the entry given last can be taken until the next one is asked for; what is
    left of it is skipped. When the iteration ends by itself, the whole stream has been read and
    found well-formed.
    """

    def __init__(self, stream: BlockReader, limits: Limits, *, absolute: bool = True) -> None:
        """Read a stream from where it is.

        Args:
            stream: the uncompressed bytes.
            limits: `entries`, `size`, `depth` and `pax` count.
            absolute: take a leading `/` for nothing, as layers want it; else refuse it.
        """
        self._stream = stream
        self._limits = limits
        self._name = b""
        self._offset = 0
        self._left = 0
        self._padding = 0
        self._ended = False
        self._decoder = HeaderDecoder(self._refuse)
        self._rules = EntryRules(limits, self._refuse, absolute=absolute)

    @property
    def entries(self) -> int:
        """How many entries have been given."""
        return self._rules.entries

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Entry:
        """Return the next entry.

        Raises:
            RefusedInput: the archive is malformed, ambiguous or past a budget.
            SnapcoreError: what the stream raises.
        """
        self._skip_payload()
        first = self._stream.position
        extra = Extra(self._refuse)
        while not self._ended:
            self._offset, self._name = self._stream.position, b""
            block = self._stream.read(BLOCK)
            if len(block) < BLOCK or block == _ZEROS:
                self._end(block, extra)
                break
            header = self._decoder.decode(block)
            self._name = header.name
            kind = _TYPES.get(header.type)
            if kind is not None:
                return self._entry(header, kind, block, extra, first)
            self._read_extra(header, extra)
        raise StopIteration

    def copy_payload(self, descriptor: int) -> None:
        """Write what is left of the current entry's payload to an open file.

        Raises:
            OSError: as write(2); the caller knows what it was writing.
            RefusedInput: the stream ends first.
        """
        left, self._left = self._left, 0
        if self._stream.copy(descriptor, left) != left:
            raise self._cut()

    def payload(self) -> Iterator[memoryview]:
        """Yield what is left of the current entry's payload, piece by piece.

        Raises:
            RefusedInput: the stream ends first.
        """
        for view in self._stream.views(self._left):
            self._left -= len(view)
            yield view
        if self._left:
            raise self._cut()

    def _skip_payload(self) -> None:
        rest = self._left + self._padding
        self._left = self._padding = 0
        if rest and self._stream.skip(rest) != rest:
            raise self._cut()

    def _end(self, block: bytes, extra: Extra) -> None:
        self._ended = True
        if extra.pending:
            raise self._refuse("the archive ends after a PAX or long-name header")
        if not block:
            return
        if len(block) < BLOCK:
            raise self._refuse("the archive is cut off inside a header")
        if self._stream.read(BLOCK).strip(b"\0"):
            raise self._refuse("a single zero block is followed by data")
        while tail := self._stream.read(1 << 18):
            if tail.strip(b"\0"):
                raise self._refuse("the archive goes on after its two zero blocks")

    def _read_extra(self, header: Header, extra: Extra) -> None:
        kind = header.type
        if kind == _SPARSE:
            raise self._refuse("sparse files are not allowed in layers")
        if kind not in _EXTRA:
            raise self._refuse(f"unknown entry type {kind!r}")
        body = self._extra_body(header)
        if kind != _GLOBAL:
            extra.add(kind, body)
        elif extra.pending:
            raise self._refuse("a global PAX header between an entry and what belongs to it")
        else:
            check_global(body, self._refuse)

    def _extra_body(self, header: Header) -> bytes:
        size = header.size
        if not 0 <= size <= self._limits.pax:
            raise self._refuse(
                f"a {header.type!r} header of {size} bytes; at most {self._limits.pax} are allowed"
            )
        body = self._stream.read(size)
        padding = -size % BLOCK
        if len(body) != size or self._stream.skip(padding) != padding:
            raise self._cut()
        return body

    def _entry(
        self, header: Header, kind: EntryType, block: bytes, extra: Extra, first: int
    ) -> Entry:
        if extra.pending:
            header = extra.apply(header)
            self._name = header.name
        if header.type == b"\0" and header.name.endswith(b"/"):
            kind = EntryType.DIRECTORY
        entry = self._rules.make(
            header.name,
            kind,
            header.mode,
            header.uid,
            header.gid,
            header.mtime,
            header.size,
            header.link,
            self._device(header, block) if kind in DEVICES else _NO_DEVICE,
            extra.xattrs,
            first,
        )
        self._left, self._padding = header.size, -header.size % BLOCK
        return entry

    def _device(self, header: Header, block: bytes) -> tuple[int, int]:
        if header.v7:
            raise self._refuse("a device in a v7 header, which has no device numbers")
        return self._decoder.device(block)

    def _cut(self) -> RefusedInput:
        return self._refuse("the archive is cut off inside this entry")

    def _refuse(self, why: str) -> RefusedInput:
        return RefusedInput(f"tar entry {self._name[:_SHOWN]!r} at byte {self._offset}: {why}")
