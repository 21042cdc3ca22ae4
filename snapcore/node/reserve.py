"""Space that is kept so that things can be removed from a full disk: to forget is to write, too.

A directory of empty-looking files that hold blocks and inodes. Who frees space deletes them where
the disk is full, and they are made again once there is room; nobody else may have them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_FILES: Final = 128
"""Inodes for locks, write-ahead logs and directories that are being removed."""
_FILE_BYTES: Final = 32 * 1024
SIZE: Final = _FILES * _FILE_BYTES
_ROOM: Final = 16
"""The reserve is only made where so many of it would fit: a small disk is not made smaller."""


class Reserve:
    """The reserve of one node.

    Args:
        root: the node's root.
        writable: whether this process may have one at all.
    """

    def __init__(self, root: str, *, writable: bool = True) -> None:
        self._root: Final = root
        self._directory: Final = os.path.join(root, "reserve")
        self._writable: Final = writable

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Give the reserve away, if the disk is full, for the duration of the block."""
        self.release()
        try:
            yield
        finally:
            self.refill()

    def release(self) -> None:
        """Give the reserve away, if the disk is full."""
        if self._writable and self._fits(1) is False:
            shutil.rmtree(self._directory, ignore_errors=True)

    def refill(self) -> None:
        """Make the reserve, or what a killed process left out, if there is plenty of room.

        Never fails.
        """
        with suppress(OSError):
            if self._writable and not self._is_whole() and self._fits(_ROOM):
                os.makedirs(self._directory, 0o700, exist_ok=True)
                for number in range(_FILES):
                    _hold(os.path.join(self._directory, str(number)))

    def _is_whole(self) -> bool:
        try:
            return len(os.listdir(self._directory)) >= _FILES
        except FileNotFoundError:
            return False

    def _fits(self, times: int) -> bool | None:
        """Tell whether the disk has room for the reserve so many times; None if unknown."""
        try:
            status = os.statvfs(self._root)
        except OSError:
            return None
        inodes = status.f_files == 0 or status.f_favail >= times * _FILES
        return inodes and status.f_bavail * status.f_frsize >= times * SIZE


def _hold(path: str) -> None:
    """Give a file its blocks, whoever has made it."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(file, 0, _FILE_BYTES)
    finally:
        os.close(file)
