"""What the files of each committed snapshot were when it was made, to be compared later.

One file a snapshot, `<snapshotter>/<sha256 of the name>`, a zstd frame of text lines:

    #snapcore-inventory 1 {"created":…,"name":…}
    the listing of the snapshot's own layer (see `snapcore.archive.digest`), marks included
    #end <number of lines of the listing>

Nothing is synced: a file that a power cut has torn has no end, and counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import zstandard

from snapcore.errors import from_os_error
from snapcore.snapshots import Info, Snapshotter

_VERSION: Final = "#snapcore-inventory 1 "
_END: Final = "#end "
_NEW: Final = "new-"
_LEVEL: Final = 3


class Unkept(Exception):
    """A signal, not a failure, and so not in the error tree: nothing usable was kept."""


class _Header(msgspec.Struct, frozen=True):
    name: str
    created: int


class Inventories:
    """The inventories of one node.

    Args:
        directory: where they are; made when the first one is written.
    """

    def __init__(self, directory: str) -> None:
        self._directory: Final = directory

    def write(self, snapshotter: str, info: Info, lines: Iterable[str], owner: str) -> None:
        """Keep what a snapshot consists of, in place of what was kept before.

        Args:
            snapshotter: who has it.
            info: the snapshot; what is committed later under the same name is another one.
            lines: the listing.
            owner: id of this process, so that others know whose an unfinished file is.

        Raises:
            SnapcoreError: it cannot be written, or what giving a line raised.
        """
        target = self._path(snapshotter, info.name)
        directory = os.path.dirname(target)
        new = os.path.join(directory, f"{_NEW}{owner}-{uuid.uuid4().hex}")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            try:
                with open(new, "xb", opener=_private) as file:
                    _write(file, info, lines)
                os.rename(new, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(new)
                raise
        except OSError as error:
            raise from_os_error(error, f"inventory of snapshot {info.name!r}") from error

    @contextmanager
    def opened(self, snapshotter: str, info: Info) -> Iterator[Iterator[str]]:
        """Read what was kept of a snapshot, for the duration of the block.

        Yields:
            The lines of the listing.

        Raises:
            Unkept: nothing, of another of that name, or only torn; the iterator may raise it too.
            SnapcoreError: it cannot be read.
        """
        with _open(self._path(snapshotter, info.name)) as file:
            lines = _lines(file)
            if _header(next(lines, "")) != _Header(info.name, info.created):
                raise Unkept("what was recorded is of an earlier one of that name")
            yield _listing(lines)

    def sweep(self, snapshotter: Snapshotter, owner_alive: Callable[[str], bool]) -> int:
        """Delete the inventories of snapshots that are gone; safe at any time.

        Args:
            snapshotter: whose.
            owner_alive: tells of an owner id whether its process lives.

        Returns:
            How many files are gone.

        Raises:
            SnapcoreError: they cannot be listed or deleted.
        """
        directory = os.path.join(self._directory, snapshotter.name)
        try:
            # Before the snapshots: what is written meanwhile is of one that is seen.
            names = os.listdir(directory)
            known = {_file_name(info.name) for info in snapshotter.walk()} if names else set()
            gone = 0
            for name in names:
                if name.startswith(_NEW):
                    if owner_alive(name.removeprefix(_NEW).partition("-")[0]):
                        continue
                elif name in known:
                    continue
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))
                    gone += 1
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise from_os_error(error, f"inventories of {snapshotter.name!r}") from error
        return gone

    def _path(self, snapshotter: str, name: str) -> str:
        return os.path.join(self._directory, snapshotter, _file_name(name))


def _file_name(name: str) -> str:
    # A snapshot's name may be longer than a file's, and hold slashes.
    return hashlib.sha256(name.encode()).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _open(path: str) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise Unkept("nothing was recorded when it was made") from error
    except OSError as error:
        raise from_os_error(error, f"inventory {path!r}") from error


def _write(file: io.BufferedWriter, info: Info, lines: Iterable[str]) -> None:
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with compressor.stream_writer(file, closefd=False) as writer:
        header = msgspec.json.encode(_Header(info.name, info.created))
        writer.write(_VERSION.encode() + header + b"\n")
        count = 0
        for line in lines:
            writer.write(line.encode() + b"\n")
            count += 1
        writer.write(f"{_END}{count}\n".encode())


def _lines(file: io.BufferedReader) -> Iterator[str]:
    try:
        with zstandard.ZstdDecompressor().stream_reader(file, closefd=False) as reader:
            for line in io.TextIOWrapper(reader, encoding="utf-8", newline="\n"):
                yield line.removesuffix("\n")
    except (zstandard.ZstdError, UnicodeDecodeError, OSError) as error:
        raise _torn() from error


def _header(line: str) -> _Header:
    if not line.startswith(_VERSION):
        raise _torn()
    try:
        return msgspec.json.decode(line.removeprefix(_VERSION), type=_Header)
    except msgspec.DecodeError as error:
        raise _torn() from error


def _listing(lines: Iterator[str]) -> Iterator[str]:
    for count, line in enumerate(lines):
        if line == f"{_END}{count}":
            return
        yield line
    raise _torn()


def _torn() -> Unkept:
    return Unkept("what was recorded of it is damaged")
