"""Exact reads over a stream of blocks, without copying payload."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator


class BlockReader:
    """Reads a stream that comes as blocks; payload leaves as views into these blocks."""

    def __init__(self, next_block: Callable[[], bytes]) -> None:
        """Read from `next_block`, which returns b"" at the end of the stream, again and again."""
        self._next_block = next_block
        self._block = b""
        self._at = 0
        self._base = 0

    @property
    def position(self) -> int:
        """Bytes consumed so far."""
        return self._base + self._at

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, fewer only at the end of the stream."""
        at = self._at
        end = at + size
        if end <= len(self._block):
            self._at = end
            return self._block[at:end]
        return b"".join(self.views(size))

    def views(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes piece by piece; fewer only at the end of the stream.

        What was not taken from the iterator is not consumed.
        """
        while size > 0:
            if self._at == len(self._block) and not self._advance():
                return
            at = self._at
            end = min(at + size, len(self._block))
            self._at = end
            size -= end - at
            yield memoryview(self._block)[at:end]

    def copy(self, descriptor: int, size: int) -> int:
        """Write the next `size` bytes to an open file; return how many there were.

        Raises:
            OSError: as write(2).
        """
        copied = 0
        for view in self.views(size):
            done = os.write(descriptor, view)
            while done < len(view):
                done += os.write(descriptor, view[done:])
            copied += len(view)
        return copied

    def skip(self, size: int) -> int:
        """Consume the next `size` bytes; return how many there were."""
        end = self._at + size
        if end <= len(self._block):
            self._at = end
            return size
        return sum(len(view) for view in self.views(size))

    def _advance(self) -> bool:
        """Go to the next block; return False at the end of the stream."""
        self._base += len(self._block)
        self._at = 0
        self._block = self._next_block()
        return bool(self._block)
