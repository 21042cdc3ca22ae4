"""Who reads in order, and how far ahead to fetch for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_WINDOW: Final = 256 << 10
SLACK: Final = 1 << 20
"""The kernel reads ahead in several requests at the same time, which arrive in any order."""
_READERS: Final = 16


@dataclass(slots=True)
class _Reader:
    """Somebody who reads in order: how far they are, and how far ahead was asked for."""

    end: int
    window: int
    asked: int


class ReadAhead:
    """Recognises sequential reads of a layer's stream.

    Args:
        most: bytes of the largest window.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._readers: Final[list[_Reader]] = []

    def note(self, start: int, size: int) -> tuple[int, int]:
        """Take note of a read and return the stretch to fetch ahead: its start and end.

        The window begins with the second read in a row, doubles with each further one, and is
        gone after a read elsewhere.
        """
        end = start + size
        reader = self._reader(start)
        if reader is None:
            self._readers.append(_Reader(end, 0, end))
            del self._readers[:-_READERS]
            return end, end
        self._readers.remove(reader)
        self._readers.append(reader)
        if end <= reader.end:
            return end, end
        reader.end = end
        reader.window = min(max(reader.window * 2, FIRST_WINDOW), self._most)
        asked = max(reader.asked, end)
        # In halves of the window, so that requests are few.
        if end + reader.window // 2 < asked:
            return asked, asked
        reader.asked = max(end + reader.window, asked)
        return asked, reader.asked

    def _reader(self, start: int) -> _Reader | None:
        for reader in reversed(self._readers):
            slack = min(SLACK, reader.window)
            if reader.end - slack <= start <= reader.end + slack:
                return reader
        return None
