"""Writing tar archives whose bytes depend on nothing but their files' names and contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from snapcore.archive.header import BLOCK
from snapcore.errors import DigestMismatch, InvalidArgument

_MAX_OCTAL: Final = 8**11


class TarWriter:
    """Writes ustar entries with owner 0 and time 0; sizes from 8 GiB on are GNU base-256.

    Args:
        write: takes all of what it is given.
    """

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write: Final = write

    def directory(self, name: str) -> None:
        """Write a directory."""
        self._write(_header(f"{name}/", b"5", 0o755, 0))

    def file(self, name: str, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a regular file.

        Raises:
            DigestMismatch: the pieces are not `size` bytes together.
        """
        self._write(_header(name, b"0", 0o644, size))
        written = 0
        for piece in pieces:
            written += len(piece)
            self._write(piece)
        if written != size:
            raise DigestMismatch(f"{name!r} has {written} bytes instead of {size}")
        self._write(bytes(-size % BLOCK))

    def end(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * BLOCK))


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    raw = name.encode("ascii")
    prefix, slash, base = b"", b"", raw
    if len(raw) > 100:
        prefix, slash, base = raw.rpartition(b"/")
    if len(base) > 100 or len(prefix) > 155 or (prefix and not slash):
        raise InvalidArgument(f"name {name!r} is too long for a ustar archive")
    octal = b"%011o\0" % size if size < _MAX_OCTAL else b"\x80" + size.to_bytes(11, "big")
    fields = (
        base.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        octal,
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(80),
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
