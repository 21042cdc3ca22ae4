"""A stream cut into pieces: which of them hold a stretch."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the pieces of a stream begin.

    Attributes:
        starts: of each piece, and the end of the last one: strictly increasing, from 0.
    """

    starts: array[int]

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return self.starts[-1]

    def holding(self, start: int, size: int) -> range:
        """Return the numbers of the pieces that hold a stretch; none for size 0.

        Raises:
            IndexError: the stretch is not within the stream.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise IndexError(f"bytes {start} … {start + size} of a stream of {self.size}")
        if not size:
            return range(0)
        first = bisect_right(self.starts, start) - 1
        return range(first, bisect_right(self.starts, start + size - 1, first))
