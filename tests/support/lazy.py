"""A layer of made-up pieces, and a blob source that does as told: for tests of lazy fetching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio

from snapcore.errors import DataLoss, SnapcoreError
from snapcore_fuse.fetch import Priority
from snapcore_fuse.formats import BlobRange, Piece

_PATTERN: Final = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(1 << 16))


class PlainReader:
    """Pieces of equal size, stored uncompressed with a byte sum, `spread` bytes apart."""

    def __init__(self, count: int, piece: int = 1000, spread: int = 0) -> None:
        self.count: Final = count
        self._piece: Final = piece
        self._spread: Final = spread
        self.decoded: Final[Counter[int]] = Counter()

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return self.count * self._piece

    def piece(self, number: int) -> Piece:
        """Return a piece by its number."""
        at = number * (self._piece + self._spread)
        return Piece(number, number * self._piece, self._piece, BlobRange(at, self._piece))

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """Yield the pieces that hold a stretch of the stream."""
        if size:
            yield from map(
                self.piece, range(start // self._piece, (start + size - 1) // self._piece + 1)
            )

    def decode(self, piece: Piece, data: bytes) -> bytes:
        """Check that the bytes are those of the piece."""
        self.decoded[piece.number] += 1
        if data != content(piece.blob):
            raise DataLoss(f"piece {piece.number} is wrong")
        return data

    def stream(self, start: int, size: int) -> bytes:
        """Return what reading the stream must give."""
        whole = [content(piece.blob) for piece in self.pieces(start, size)]
        first = start % self._piece
        return b"".join(whole)[first : first + size]


def content(blob: BlobRange) -> bytes:
    """Return the made-up blob's bytes in a range."""
    first = blob.offset % len(_PATTERN)
    return (_PATTERN * ((first + blob.size) // len(_PATTERN) + 1))[first : first + blob.size]


class SlowSource:
    """Takes `seconds` for each read, and fails as told.

    Attributes:
        asked: ranges in the order in which they were asked for.
        priorities: of these.
        failures: raised by the next reads, or None for a good answer.
        running: reads that are on their way.
        most: of these, at the same time.
        distrusted: how often the bytes were called wrong.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.asked: Final[list[BlobRange]] = []
        self.priorities: Final[list[Priority]] = []
        self.failures: Final[list[SnapcoreError | None]] = []
        self.wrong = 0
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.distrusted = 0

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        """Return bytes of the made-up blob, after a while."""
        self.asked.append(wanted)
        self.priorities.append(priority)
        failure = self.failures.pop(0) if self.failures else None
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if failure is not None:
            raise failure
        if self.wrong:
            self.wrong -= 1
            return bytes(wanted.size)
        return content(wanted)

    def distrust(self) -> None:
        """Count."""
        self.distrusted += 1
