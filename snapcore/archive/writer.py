"""Writing tar archives: what the strict reader reads back as the same entries, or nothing.

POSIX.1-2017 "ustar Interchange Format", with PAX records only for what a ustar header cannot say:
long names, xattrs, fractions of seconds, times before 1970, large ids and sizes. Nothing but the
entries decides about the bytes: no user names, no access times, records sorted by key. Names are
bytes and are written as they are, in records too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from snapcore.archive.failures import shown
from snapcore.archive.header import BLOCK
from snapcore.archive.rules import EntryRules
from snapcore.archive.types import Entry, EntryType, Limits
from snapcore.errors import DigestMismatch, RefusedInput

_TYPES: Final = {
    EntryType.FILE: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.CHARACTER: b"3",
    EntryType.BLOCK: b"4",
    EntryType.DIRECTORY: b"5",
    EntryType.FIFO: b"6",
}
_MAX_NAME: Final = 100
_MAX_PREFIX: Final = 155
_MAX_ID: Final = 8**7 - 1
_MAX_NUMBER: Final = 8**11 - 1
_NANOSECONDS: Final = 1_000_000_000
_NO_NAME: Final = b"@"


class TarWriter:
    """Writes entries, one after the other.

    Args:
        write: takes all of what it is given.
        limits: what the archive's reader will allow.

    Attributes:
        entries: how many have been written.
    """

    def __init__(
        self, write: Callable[[bytes | memoryview], object], limits: Limits | None = None
    ) -> None:
        self._write: Final = write
        self._limits: Final = limits or Limits()
        self._rules: Final = EntryRules(self._limits, self._refuse)
        self._path: tuple[bytes, ...] = ()

    @property
    def entries(self) -> int:
        """How many have been written."""
        return self._rules.entries

    def add(self, entry: Entry, payload: Iterable[bytes | memoryview] = ()) -> None:
        """Write an entry.

        Args:
            entry: its offset does not count.
            payload: of a regular file, piece by piece.

        Raises:
            RefusedInput: no reader would read it back so.
            DigestMismatch: the payload is not `entry.size` bytes.
        """
        self._check(entry)
        self._write(self._headers(entry))
        written = 0
        for piece in payload:
            written += len(piece)
            self._write(piece)
        if written != entry.size:
            raise DigestMismatch(f"{shown(entry.path)} has {written} bytes instead of {entry.size}")
        if written % BLOCK:
            self._write(bytes(-written % BLOCK))

    def directory(self, name: str) -> None:
        """Write a directory of owner 0, mode 0755 and time 0."""
        self.add(_plain(name, EntryType.DIRECTORY, 0o755, 0))

    def file(self, name: str, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a regular file of owner 0, mode 0644 and time 0.

        Raises:
            DigestMismatch: the pieces are not `size` bytes together.
        """
        self.add(_plain(name, EntryType.FILE, 0o644, size), pieces)

    def end(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * BLOCK))

    def _check(self, entry: Entry) -> None:
        self._path = entry.path
        self._rules.check_xattrs(entry.xattrs)
        read = self._rules.make(
            _name(entry),
            entry.type,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime,
            entry.size,
            _link(entry),
            (entry.major, entry.minor),
            entry.xattrs,
            entry.offset,
        )
        if (read.path, read.link_path, read.mode) != (entry.path, entry.link_path, entry.mode):
            raise self._refuse("its path, link or mode would be read as another")

    def _headers(self, entry: Entry) -> bytes:
        """Return all headers of an entry, the PAX one first if it needs one."""
        records = {b"SCHILY.xattr." + key: value for key, value in entry.xattrs}
        prefix, name = _split(_name(entry))
        if name == _NO_NAME:
            records[b"path"] = _name(entry)
        link = _link(entry)
        if len(link) > _MAX_NAME:
            records[b"linkpath"], link = link, _NO_NAME
        numbers = {b"uid": entry.uid, b"gid": entry.gid, b"size": entry.size}
        for key, value in numbers.items():
            if value > (_MAX_NUMBER if key == b"size" else _MAX_ID):
                records[key], numbers[key] = b"%d" % value, 0
        seconds, fraction = divmod(entry.mtime, _NANOSECONDS)
        if fraction or not 0 <= seconds <= _MAX_NUMBER:
            records[b"mtime"] = _decimal(entry.mtime)
            seconds = min(max(seconds, 0), _MAX_NUMBER)
        header = _header(
            name,
            _TYPES[entry.type],
            (entry.mode, numbers[b"uid"], numbers[b"gid"]),
            (numbers[b"size"], seconds),
            link,
            (entry.major, entry.minor),
            prefix,
        )
        return self._pax(records) + header if records else header

    def _pax(self, records: dict[bytes, bytes]) -> bytes:
        body = b"".join(_record(key, value) for key, value in sorted(records.items()))
        if len(body) > self._limits.pax:
            raise self._refuse(f"its PAX records take more than {self._limits.pax} bytes")
        header = _header(b"PaxHeaders/@", b"x", (0o644, 0, 0), (len(body), 0), b"", (0, 0), b"")
        return header + body + bytes(-len(body) % BLOCK)

    def _refuse(self, why: str) -> RefusedInput:
        return RefusedInput(f"{shown(self._path)} cannot be written to a tar: {why}")


def _plain(name: str, kind: EntryType, mode: int, size: int) -> Entry:
    path = tuple(name.encode("ascii").split(b"/"))
    return Entry(path, kind, mode, 0, 0, 0, size, b"", (), 0, 0, (), 0)


def _name(entry: Entry) -> bytes:
    name = b"/".join(entry.path)
    if entry.type is EntryType.DIRECTORY:
        return name + b"/" if name else b"./"
    return name


def _link(entry: Entry) -> bytes:
    return b"/".join(entry.link_path) if entry.type is EntryType.HARDLINK else entry.link


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Return the prefix and name fields of a name; `_NO_NAME` if it needs a record."""
    if len(name) <= _MAX_NAME:
        return b"", name
    # The first slash that leaves a short enough rest; a directory's own last one is no place.
    cut = name.find(b"/", len(name) - _MAX_NAME - 1, len(name) - 1)
    if 0 < cut <= _MAX_PREFIX:
        return name[:cut], name[cut + 1 :]
    return b"", _NO_NAME


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record: its length, which counts itself, key, value and a newline."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _decimal(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), _NANOSECONDS)
    sign = b"-" if nanoseconds < 0 else b""
    return b"%s%d.%09d" % (sign, seconds, fraction) if fraction else b"%s%d" % (sign, seconds)


def _header(
    name: bytes,
    kind: bytes,
    short: tuple[int, int, int],
    long: tuple[int, int],
    link: bytes,
    device: tuple[int, int],
    prefix: bytes,
) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0" % short,
        b"%011o\0%011o\0" % long,
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0%07o\0" % device,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
