"""Removing trees by directory descriptors: any depth, never through a symlink, two open at most."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from snapcore.errors import FailedPrecondition

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    """A directory on the way down and the names still to remove in it."""

    name: bytes
    names: list[bytes]
    identity: tuple[int, int]


def remove_name(directory: int, name: bytes) -> None:
    """Remove a name of an open directory, and everything below it.

    Raises:
        OSError: as unlinkat(2) and rmdir(2); ENOENT if there is no such name.
        FailedPrecondition: somebody moves directories about at the same time.
    """
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        child = _open(directory, name)
        try:
            remove_children(child)
        finally:
            os.close(child)
        os.rmdir(name, dir_fd=directory)


def remove_children(directory: int) -> None:
    """Remove everything in an open directory; the directory itself stays.

    Raises:
        OSError: as unlinkat(2) and rmdir(2).
        FailedPrecondition: somebody moves directories about at the same time.
    """
    here = directory
    levels = [_level(b"", directory)]
    try:
        while True:
            level = levels[-1]
            if level.names:
                name = level.names.pop()
                if _unlinked(here, name):
                    continue
                child = _open(here, name)
                if here != directory:
                    os.close(here)
                here = child
                levels.append(_level(name, child))
            elif len(levels) == 1:
                return
            else:
                levels.pop()
                above = _above(here, levels[-1])
                os.close(here)
                here = above
                os.rmdir(level.name, dir_fd=here)
    finally:
        if here != directory:
            os.close(here)


def _level(name: bytes, directory: int) -> _Level:
    return _Level(name, [os.fsencode(n) for n in os.listdir(directory)], _identity(directory))


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _unlinked(directory: int, name: bytes) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _open(directory: int, name: bytes) -> int:
    """Open a directory that is about to go, after giving its owner access to it."""
    path = os.open(name, _OPEN_PATH, dir_fd=directory)
    try:
        mode = stat.S_IMODE(os.fstat(path).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{path}", mode | stat.S_IRWXU)
        return os.open(b".", _OPEN, dir_fd=path)
    finally:
        os.close(path)


def _above(directory: int, expected: _Level) -> int:
    # ".." instead of a kept descriptor, so that depth costs no descriptors.
    above = os.open(b"..", _OPEN, dir_fd=directory)
    if _identity(above) != expected.identity:
        os.close(above)
        raise FailedPrecondition(
            f"directory {expected.name!r} was moved while what it holds was removed"
        )
    return above
