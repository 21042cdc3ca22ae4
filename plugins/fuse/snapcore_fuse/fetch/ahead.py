"""Who reads in order, and how far ahead to fetch for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_WINDOW: Final = 256 << 10
SLACK: Final = 1 << 20
"""The kernel reads ahead in several requests at the same time, which arrive in any order."""
FILES_IN_ORDER: Final = 4
"""Who has read so many files in the order in which they lie will want the next ones too."""
_BETWEEN: Final = 4096
"""Most bytes of a stream between two files: headers and padding of a tar, or nothing."""
_READERS: Final = 16


@dataclass(slots=True)
class _Reader:
    """Somebody who reads in order.

    Attributes:
        begin: where they began.
        end: how far they are.
        window: bytes to fetch ahead for them.
        asked: how far that was done.
        file_end: where the file that they read ends.
        files: how many they have read, one behind the other.
    """

    begin: int
    end: int
    window: int
    asked: int
    file_end: int
    files: int = 1


class ReadAhead:
    """Recognises sequential reads of a layer's stream.

    Args:
        most: bytes of the largest window.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._readers: Final[list[_Reader]] = []

    def note(self, start: int, size: int, file_end: int) -> tuple[int, int]:
        """Take note of a read and return the stretch to fetch ahead: its start and end.

        The window begins with the second read in a row, doubles with each further one, and is
        gone after a read elsewhere. It ends with the file: a program rarely wants what happens to
        lie behind its libraries. Behind files that are read in order, it may have as much as
        these.

        Args:
            start: of the read, in the stream.
            size: of the read.
            file_end: where the file that is read ends.
        """
        end = start + size
        reader = self._reader(start, file_end)
        if reader is None:
            self._readers.append(_Reader(start, end, 0, end, file_end))
            del self._readers[:-_READERS]
            return end, end
        self._readers.remove(reader)
        self._readers.append(reader)
        if end <= reader.end:
            return end, end
        if file_end != reader.file_end:
            reader.file_end = file_end
            reader.files += 1
        reader.end = end
        reader.window = min(max(reader.window * 2, FIRST_WINDOW), self._most)
        asked = max(reader.asked, end)
        # In halves of the window, so that requests are few.
        if end + reader.window // 2 < asked:
            return asked, asked
        behind = end - reader.begin if reader.files >= FILES_IN_ORDER else 0
        reader.asked = max(min(end + reader.window, file_end + behind), asked)
        return asked, reader.asked

    def _reader(self, start: int, file_end: int) -> _Reader | None:
        for reader in reversed(self._readers):
            if reader.file_end == file_end:
                slack = min(SLACK, reader.window)
                if reader.end - slack <= start <= reader.end + slack:
                    return reader
            elif reader.end == reader.file_end <= start <= reader.end + _BETWEEN:
                return reader
        return None
