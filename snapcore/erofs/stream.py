"""The file that an image is written to: forwards, with a few places filled in later."""

from __future__ import annotations

import os
from typing import Final

_BUFFER: Final = 1 << 20


class Stream:
    """Appends to a file, and writes over what was appended.

    Attributes:
        position: where the next byte goes.
    """

    def __init__(self, file: int) -> None:
        """Begin at the start of an empty file, open for reading and writing."""
        self._file: Final = file
        self._buffer = bytearray()
        self._start = 0
        self.position = 0

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._buffer += data
        self.position += len(data)
        if len(self._buffer) > _BUFFER:
            self.flush()

    def skip(self, position: int) -> None:
        """Fill up with zeros to a position."""
        self.append(bytes(position - self.position))

    def patch(self, position: int, data: bytes) -> None:
        """Write over bytes that were appended."""
        if position >= self._start:
            offset = position - self._start
            self._buffer[offset : offset + len(data)] = data
            return
        if position + len(data) > self._start:
            self.flush()
        _write(self._file, data, position)

    def read(self, position: int, size: int) -> bytes:
        """Return bytes that were appended."""
        self.flush()
        return os.pread(self._file, size, position)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        _write(self._file, bytes(self._buffer), self._start)
        self._start = self.position
        self._buffer.clear()


def _write(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written
