"""Where an export is written: whole under its name at the end, or not there at all."""

from __future__ import annotations

import os
import select
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from snapcore.archive import TarWriter
from snapcore.errors import AlreadyExists, DigestMismatch, from_os_error
from snapcore.registry.interrupt import checkpoint

_POLL_MILLISECONDS: Final = 100
# A pipe that is ready takes this much without blocking (pipe(7), PIPE_BUF).
_PIPE_WRITE: Final = 4096


class Sink(Protocol):
    """Takes files and directories, parents first."""

    def directory(self, name: str) -> None:
        """Make a directory."""

    def file(self, name: str, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file of `size` bytes."""


class DirectorySink:
    """Writes below a directory that exists.

    Args:
        root: the directory.
    """

    def __init__(self, root: str) -> None:
        self._root: Final = root

    def directory(self, name: str) -> None:
        """Make a directory."""
        os.mkdir(os.path.join(self._root, name), 0o755)

    def file(self, name: str, size: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file, on disk when this returns.

        Raises:
            DigestMismatch: the pieces are not `size` bytes together.
        """
        with open(os.path.join(self._root, name), "xb") as out:
            out.writelines(pieces)
            if out.tell() != size:
                raise DigestMismatch(f"{name!r} has {out.tell()} bytes instead of {size}")
            out.flush()
            os.fsync(out.fileno())


@contextmanager
def new_directory(path: str) -> Iterator[Sink]:
    """Fill a directory for the duration of a `with` block; it gets its name at the end.

    Raises:
        AlreadyExists: something is there already, other than an empty directory.
        ResourceExhausted, PermissionDenied, NotFound: the file system's.
    """
    target = os.path.abspath(path)
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise AlreadyExists(f"{path!r} exists and is not an empty directory")
    partial = _partial(target)
    with _as_ours(path), _removed_on_failure(partial):
        os.mkdir(partial, 0o755)
        yield DirectorySink(partial)
        os.rename(partial, target)
        _sync(os.path.dirname(target))


@contextmanager
def new_file(path: str, *, force: bool) -> Iterator[Callable[[bytes | memoryview], None]]:
    """Write a file for the duration of a `with` block; it gets its name at the end.

    Args:
        path: its name.
        force: replace a file of that name.

    Yields:
        What takes all of the bytes that it is given.

    Raises:
        AlreadyExists: the name is taken.
        ResourceExhausted, PermissionDenied, NotFound: the file system's.
    """
    target = os.path.abspath(path)
    if os.path.lexists(target) and not (force and stat.S_ISREG(os.lstat(target).st_mode)):
        raise AlreadyExists(f"{path!r} exists" + ("" if force else "; --force replaces a file"))
    partial = _partial(target)
    with _as_ours(path), _removed_on_failure(partial):
        with open(partial, "xb") as out:
            yield lambda data: _write_file(out.fileno(), data)
            os.fsync(out.fileno())
        os.rename(partial, target)
        _sync(os.path.dirname(target))


@contextmanager
def new_tar(path: str, *, force: bool) -> Iterator[Sink]:
    """Write a tar as `new_file` writes a file.

    Raises:
        SnapcoreError: as `new_file`.
    """
    with new_file(path, force=force) as write:
        writer = TarWriter(write)
        yield writer
        writer.end()


@contextmanager
def open_tar(descriptor: int) -> Iterator[Sink]:
    """Write a tar to an open file or pipe for the duration of a `with` block.

    Raises:
        ResourceExhausted: no space.
        BrokenPipeError: nobody reads the pipe any more.
    """
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    put = _write_file if regular else _write_pipe
    writer = TarWriter(lambda data: put(descriptor, data))
    with _as_ours("standard output" if descriptor == 1 else f"descriptor {descriptor}"):
        yield writer
        writer.end()


def _write_file(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_pipe(descriptor: int, data: bytes | memoryview) -> None:
    """Write so that a cancel is noticed even if the reader sleeps."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    view = memoryview(data)
    while view:
        while not poll.poll(_POLL_MILLISECONDS):
            checkpoint()
        view = view[os.write(descriptor, view[:_PIPE_WRITE]) :]


@contextmanager
def _as_ours(what: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise from_os_error(error, f"cannot write {what!r}") from error


@contextmanager
def _removed_on_failure(partial: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if os.path.isdir(partial):
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                os.unlink(partial)
        raise


def _partial(target: str) -> str:
    directory, name = os.path.split(target)
    return os.path.join(directory, f".{name[:200]}.{uuid.uuid4().hex}.partial")


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
