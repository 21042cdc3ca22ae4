"""Measuring a tree: all of it, and the part that changed since it was copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from snapcore.errors import Unavailable, from_os_error
from snapcore.snapshots import Usage

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK: Final = 512
_ATTEMPTS: Final = 10


class _Moved(Exception):
    """A directory was moved while we were inside: start again."""


def measure(path: str, since: int | None, checkpoint: Callable[[], None]) -> Usage:
    """Measure a tree, which may be in use.

    Args:
        path: its top directory.
        since: what has a ctime (ns) of this or later makes up the delta; None for everything.
        checkpoint: called for each directory and each entry.

    Returns:
        Unique inodes, their blocks, and the blocks of those that changed.

    Raises:
        NotFound: no such directory.
        Unavailable: directories are moved around faster than they can be looked at.
        SnapcoreError: it cannot be read.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _Measurement(since, checkpoint).run(path)
        except _Moved:
            continue
        except OSError as error:
            raise from_os_error(error, f"cannot measure {path!r}") from error
    raise Unavailable(f"{path!r} keeps changing while it is measured; try again later")


class _Measurement:
    __slots__ = ("_checkpoint", "_delta", "_inodes", "_linked", "_since", "_size")

    def __init__(self, since: int | None, checkpoint: Callable[[], None]) -> None:
        self._since = since
        self._checkpoint = checkpoint
        self._linked: set[int] = set()
        self._inodes = self._size = self._delta = 0

    def run(self, path: str) -> Usage:
        current = os.open(path, _OPEN)
        try:
            levels = [(os.fstat(current).st_ino, self._enter(current))]
            while levels:
                inode, pending = levels[-1]
                if os.fstat(current).st_ino != inode:
                    raise _Moved
                if pending:
                    following = _open_or_none(pending.pop(), current)
                    if following is None:
                        continue
                    levels.append((os.fstat(following).st_ino, self._enter(following)))
                else:
                    levels.pop()
                    following = os.open("..", _OPEN, dir_fd=current)
                os.close(current)
                current = following
        finally:
            os.close(current)
        return Usage(self._inodes, self._size, self._delta)

    def _enter(self, directory: int) -> list[bytes]:
        """Count a directory and all in it but the directories, which are returned."""
        self._count(os.fstat(directory))
        inside: list[bytes] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                self._checkpoint()
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    inside.append(os.fsencode(entry.name))
                elif status.st_nlink == 1 or status.st_ino not in self._linked:
                    if status.st_nlink > 1:
                        self._linked.add(status.st_ino)
                    self._count(status)
        return inside

    def _count(self, status: os.stat_result) -> None:
        size = status.st_blocks * _BLOCK
        self._inodes += 1
        self._size += size
        if self._since is None or status.st_ctime_ns >= self._since:
            self._delta += size


def _open_or_none(name: bytes, directory: int) -> int | None:
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
