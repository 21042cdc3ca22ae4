"""Other readers of tar: what they list of an archive, in one form for all."""

from __future__ import annotations

import ctypes
import functools
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from snapcore.archive import EntryType
from support.diffs import read_tar

_LIBRARY: Final = "libarchive.so.13"
_BLOCK_SIZE: Final = 10240
_OK, _EOF, _WARN = 0, 1, -20
_MODE_TYPES: Final = {
    0o100000: "file", 0o040000: "directory", 0o120000: "symlink", 0o020000: "character",
    0o060000: "block", 0o010000: "fifo",
}  # fmt: skip
_LETTERS: Final = {
    "-": "file", "d": "directory", "l": "symlink", "h": "hardlink", "c": "character",
    "b": "block", "p": "fifo", "C": "file",
}  # fmt: skip
_STDLIB: Final = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "character", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip
_LINE: Final = re.compile(
    rb'(?P<kind>.)\S{9}\S? \S+ +(?P<size>\S+) +\S+ +\S+ +(?P<name>"(?:[^"\\]|\\.)*")'
    rb'(?: (?:->|link to) (?P<link>"(?:[^"\\]|\\.)*"))?\Z'
)
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPES: Final = {
    b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
}  # fmt: skip


class Refused(Exception):
    """A reader takes an archive for damaged."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as every reader can say it.

    Attributes:
        path: components, without "" and ".".
        kind: as `EntryType`.
        size: of a regular file, else 0.
        link: a symlink's text, or a hard link's target as a path.
    """

    path: tuple[bytes, ...]
    kind: str
    size: int
    link: bytes


Listing = tuple[Listed, ...]
Oracle = Callable[[bytes], Listing]


def ours(data: bytes) -> Listing:
    """List by the reader under test.

    Raises:
        RefusedInput: it refuses.
    """
    return tuple(
        _listed(b"/".join(entry.path), entry.type, entry.size, entry.link)
        for entry, _ in read_tar(data)
    )


def standard_library(data: bytes) -> Listing:
    """List by Python's tarfile."""
    try:
        with tarfile.open(
            fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape", encoding="utf-8"
        ) as archive:
            return tuple(
                _listed(_raw(m.name), _STDLIB.get(m.type, "unknown"), m.size, _raw(m.linkname))
                for m in archive
            )
    except (tarfile.TarError, ValueError, OverflowError, UnicodeError, EOFError) as error:
        raise Refused(str(error)) from error


def gnu_tar(data: bytes) -> Listing:
    """List by GNU tar."""
    done = subprocess.run(
        ["tar", "--list", "-v", "--quoting-style=c", "--numeric-owner", "--full-time", "-f", "-"],
        input=data,
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
    )
    if done.returncode:
        raise Refused(done.stderr.decode(errors="replace"))
    return tuple(_gnu_line(line) for line in done.stdout.splitlines())


def libarchive(data: bytes) -> Listing:
    """List by libarchive, in this process."""
    library = _load()
    archive = library.archive_read_new()
    try:
        library.archive_read_support_format_tar(archive)
        if library.archive_read_open_memory(archive, data, len(data)) != _OK:
            raise Refused(_error(library, archive))
        return _walk(library, archive)
    finally:
        library.archive_read_free(archive)


def available() -> Mapping[str, Oracle]:
    """Return the oracles that this machine has."""
    found: dict[str, Oracle] = {"tarfile": standard_library}
    if shutil.which("tar"):
        found["GNU tar"] = gnu_tar
    try:
        _load()
    except OSError:
        return found
    return {**found, "libarchive": libarchive}


def _listed(name: bytes, kind: str, size: int, link: bytes) -> Listed:
    if kind == EntryType.HARDLINK:
        link = b"/".join(_split(link))
    elif kind != EntryType.SYMLINK:
        link = b""
    return Listed(_split(name), str(kind), size if kind == EntryType.FILE else 0, link)


def _split(name: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in name.split(b"/") if part not in (b"", b"."))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _gnu_line(line: bytes) -> Listed:
    match = _LINE.match(line)
    if match is None:
        raise AssertionError(f"a line of GNU tar that nobody understands: {line!r}")
    kind = _LETTERS.get(match["kind"].decode(), "unknown")
    size = int(match["size"]) if match["size"].isdigit() else 0
    return _listed(_unquoted(match["name"]), kind, size, _unquoted(match["link"] or b'""'))


def _unquoted(text: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        what = match[1]
        return bytes([int(what, 8)]) if what.isdigit() else _ESCAPES.get(what, what)

    return _ESCAPE.sub(plain, text[1:-1])


def _walk(library: ctypes.CDLL, archive: int) -> Listing:
    found: list[Listed] = []
    entry = ctypes.c_void_p()
    while True:
        status = library.archive_read_next_header(archive, ctypes.byref(entry))
        if status == _EOF:
            return tuple(found)
        if status not in (_OK, _WARN):
            raise Refused(_error(library, archive))
        hard, soft = library.archive_entry_hardlink(entry), library.archive_entry_symlink(entry)
        kind = _MODE_TYPES.get(library.archive_entry_filetype(entry), "unknown")
        found.append(
            _listed(
                library.archive_entry_pathname(entry) or b"",
                "hardlink" if hard is not None else kind,
                library.archive_entry_size(entry),
                hard or soft or b"",
            )
        )
        if library.archive_read_data_skip(archive) not in (_OK, _WARN):
            raise Refused(_error(library, archive))


def _error(library: ctypes.CDLL, archive: int) -> str:
    said: bytes = library.archive_error_string(archive) or b""
    return said.decode(errors="replace")


@functools.cache
def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    pointer = ctypes.c_void_p
    for name, result, *arguments in (
        ("archive_read_new", pointer),
        ("archive_read_support_format_tar", ctypes.c_int, pointer),
        ("archive_read_open_memory", ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t),
        ("archive_read_next_header", ctypes.c_int, pointer, ctypes.POINTER(pointer)),
        ("archive_read_data_skip", ctypes.c_int, pointer),
        ("archive_read_free", ctypes.c_int, pointer),
        ("archive_error_string", ctypes.c_char_p, pointer),
        ("archive_entry_pathname", ctypes.c_char_p, pointer),
        ("archive_entry_hardlink", ctypes.c_char_p, pointer),
        ("archive_entry_symlink", ctypes.c_char_p, pointer),
        ("archive_entry_filetype", ctypes.c_uint, pointer),
        ("archive_entry_size", ctypes.c_int64, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
