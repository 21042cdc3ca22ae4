"""One file of a cache, with many chunks one after the other."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from snapcore_fuse.cache.records import (
    HEADER_BYTES,
    Kind,
    Record,
    pack_table,
    parse,
    parse_table,
)

SUFFIX: Final = ".seg"
TABLE_SUFFIX: Final = ".idx"
PARTIAL_SUFFIX: Final = ".partial"
_LIVE: Final = 1
_SOUND: Final = 2
_HOT: Final = 4


class Segment:
    """A file that is appended to and deleted whole.

    Its table of chunks is in memory, packed, 33 bytes a chunk. Guarded by the cache's lock, but
    for `write`, `read` and `overwrite`, whose caller has pinned it, and `write_table`, when
    nothing is added any more.

    Attributes:
        number: later segments have higher ones.
        end: where the next record goes.
        live: bytes of records that count.
        orders: records that take back what older segments hold.
        writers: who is writing to it just now.
    """

    def __init__(self, directory: str, number: int) -> None:
        self.number: Final = number
        self.end = 0
        self.live = 0
        self.orders = 0
        self.writers = 0
        self._path: Final = os.path.join(directory, f"{number:016x}")
        self._file = os.open(
            self._path + SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        self._pins = 0
        self._doomed = False
        self._offsets: Final = array("Q")
        self._sizes: Final = array("I")
        self._checks: Final = array("I")
        self._numbers: Final = array("Q")
        self._owners: Final[list[bytes]] = []
        self._states: Final = bytearray()

    def load(self) -> Iterator[Record]:
        """Yield what the file holds: by its table, or else by a walk over its headers.

        The walk ends at what a crash tore; that is cut off. Damaged bytes behind a sound header
        are found when they are read.
        """
        size = os.fstat(self._file).st_size
        records = self._read_table(size)
        for record in self._walk(size) if records is None else records:
            self.end = record.end
            yield record
        if records is None and self.end < size:
            os.ftruncate(self._file, self.end)

    def add(self, record: Record, *, sound: bool) -> int:
        """Take a chunk into the table and return its slot.

        Args:
            record: the chunk's.
            sound: its bytes were just written; else they are checked at the first read.
        """
        self._offsets.append(record.offset)
        self._sizes.append(record.size)
        self._checks.append(record.check)
        self._numbers.append(record.number)
        self._owners.append(record.owner)
        self._states.append(_LIVE | (_SOUND if sound else 0))
        self.live += HEADER_BYTES + record.size
        return len(self._states) - 1

    def kill(self, slot: int) -> None:
        """Note that a chunk no longer counts."""
        if self._states[slot] & _LIVE:
            self._states[slot] &= ~_LIVE
            self.live -= HEADER_BYTES + self._sizes[slot]

    def used(self, slot: int) -> None:
        """Note that a chunk was read, and so was found sound."""
        self._states[slot] |= _HOT | _SOUND

    def kept(self, *, hot_only: bool) -> list[int]:
        """Return the slots of the chunks that count, the latest first."""
        wanted = _LIVE | (_HOT if hot_only else 0)
        states = self._states
        return [n for n in range(len(states) - 1, -1, -1) if states[n] & wanted == wanted]

    def key(self, slot: int) -> tuple[bytes, int]:
        """Return owner and number of a chunk."""
        return self._owners[slot], self._numbers[slot]

    def size(self, slot: int) -> int:
        """Return the bytes of a chunk."""
        return self._sizes[slot]

    def pin(self) -> None:
        """Keep the file open until `unpin`."""
        self._pins += 1

    def unpin(self) -> bool:
        """Undo one `pin`; say whether the caller must `shut` the file, outside the lock."""
        self._pins -= 1
        return self._doomed and not self._pins

    def doom(self) -> None:
        """Have the file shut by whoever unpins it last; pinned by the caller."""
        self._doomed = True

    def shut(self) -> None:
        """Close the file. Where it was deleted, its room is given back only now."""
        os.close(self._file)

    def write(self, record: Record, data: bytes) -> None:
        """Write a record at its place; OSError if it did not get there whole."""
        header = record.pack()
        written = os.pwritev(self._file, (header, data), record.offset)
        while written < HEADER_BYTES + len(data):
            rest = (header + data)[written:]
            written += os.pwrite(self._file, rest, record.offset + written)

    def read(self, slot: int, start: int, size: int) -> bytes | None:
        """Return bytes of a chunk; None if it is damaged. OSError if they cannot be read.

        Args:
            slot: the chunk's.
            start: first byte.
            size: how many, at most what the chunk has from there on.
        """
        at = self._offsets[slot] + HEADER_BYTES
        if self._states[slot] & _SOUND:
            data = os.pread(self._file, size, at + start)
            return data if len(data) == size else None
        whole = os.pread(self._file, self._sizes[slot], at)
        if len(whole) != self._sizes[slot] or zlib.crc32(whole) != self._checks[slot]:
            return None
        return whole[start : start + size]

    def overwrite(self, slot: int) -> None:
        """Have a chunk's own header say that it is dropped; OSError if that fails.

        This needs no room, and the walk over the headers still finds its way.
        """
        owner, number = self.key(slot)
        record = Record(Kind.DROP, self._sizes[slot], 0, number, self._offsets[slot], owner)
        self.drop_table()
        os.pwrite(self._file, record.pack(), record.offset)

    def write_table(self) -> None:
        """Save the table beside the file, so that opening need not walk it.

        A segment with records other than chunks is walked: their order among chunks counts.
        """
        if self.orders:
            return
        rows = zip(
            self._sizes, self._checks, self._numbers, self._offsets, self._owners, strict=True
        )
        records = sorted((Record(Kind.CHUNK, *row) for row in rows), key=lambda item: item.offset)
        table = pack_table(records)
        partial = self._path + PARTIAL_SUFFIX
        with open(partial, "wb", opener=_private) as file:
            file.write(table)
        os.rename(partial, self._path + TABLE_SUFFIX)

    def drop_table(self) -> None:
        """Delete the saved table, before more is appended."""
        with suppress(FileNotFoundError):
            os.unlink(self._path + TABLE_SUFFIX)

    def unlink(self) -> None:
        """Delete the files; who has it pinned can read on."""
        self.drop_table()
        with suppress(FileNotFoundError):
            os.unlink(self._path + SUFFIX)

    def _read_table(self, size: int) -> list[Record] | None:
        try:
            with open(self._path + TABLE_SUFFIX, "rb") as file:
                records = parse_table(file.read())
        except OSError:
            return None
        if records and records[-1].end > size:
            return None
        return records

    def _walk(self, size: int) -> Iterator[Record]:
        offset = 0
        while True:
            record = parse(os.pread(self._file, HEADER_BYTES, offset))
            if record is None or record.offset != offset or record.end > size:
                return
            yield record
            offset = record.end


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
