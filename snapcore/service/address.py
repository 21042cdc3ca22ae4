"""The socket's place in the file system: whose it is, and that only one process has it.

Who may connect is root to what is served, so the directory, not the socket alone, keeps others
out: between bind(2) and chmod(2) a socket is open to whoever can reach it.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from snapcore.errors import FailedPrecondition, InvalidArgument, from_os_error
from snapcore.locks import FileLock

_LONGEST: Final = 107
"""Bytes of a path that fit into `sockaddr_un` (unix(7))."""


def socket_path(address: str) -> str:
    """Return the path of an address: a path, or `unix://` and a path.

    Raises:
        InvalidArgument: another kind of address, or a path that is too long.
    """
    scheme, colon, rest = address.partition(":")
    path = rest if colon and scheme == "unix" else address
    if not path or "\0" in path or (colon and scheme != "unix" and "://" in address):
        raise InvalidArgument(f"not the address of a unix socket: {address!r}")
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > _LONGEST:
        raise InvalidArgument(f"the path of a socket has {_LONGEST} bytes at most: {path!r}")
    return path


@contextmanager
def claimed(path: str) -> Iterator[None]:
    """Hold the right to have a socket at `path` for the duration of a `with` block.

    The directory is made (mode 0700) if it is not there; a socket that a dead process left is
    deleted.

    Raises:
        FailedPrecondition: a living process serves there; something else is there; or others
            may use the directory.
        SnapcoreError: the directory cannot be used.
    """
    directory = os.path.dirname(path)
    _private(directory)
    lock = FileLock(f"{path}.lock")
    try:
        free = lock.try_acquire()
    except OSError as error:
        raise from_os_error(error, f"lock file {lock.path!r}") from error
    if not free:
        raise FailedPrecondition(f"another process serves at {path!r}")
    try:
        _clear(path)
        yield
    finally:
        # The next one makes another if somebody has taken it away.
        with suppress(OSError):
            lock.discard()
        lock.release()


def _private(directory: str) -> None:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.stat(directory)
    except OSError as error:
        raise from_os_error(error, f"directory {directory!r} of the socket") from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise FailedPrecondition(
            f"directory {directory!r} of the socket must be yours alone (mode 0700); choose an"
            " address in a directory of its own"
        )


def _clear(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FailedPrecondition(f"{path!r} is there and is not a socket")
        if _is_listened_to(path):
            raise FailedPrecondition(f"another process serves at {path!r}")
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"socket {path!r}") from error


def _is_listened_to(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        # So that a process which takes no more connections is not waited for.
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
    return True
