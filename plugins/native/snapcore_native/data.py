"""Copying the contents of one file, the cheapest way that the filesystem allows.

FICLONE shares all blocks (ioctl_ficlonerange(2)); copy_file_range(2) stays inside the kernel;
read(2) and write(2) work everywhere. What fails for lack of support is not tried again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from snapcore.errors import DataLoss
from snapcore.linux import ficlone

CHUNK: Final = 8 << 20
"""Bytes copied between two checkpoints."""

_UNSUPPORTED: Final = frozenset(
    {
        errno.EINVAL,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EOPNOTSUPP,
        errno.EXDEV,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EBADF,
    }
)


class DataCopier:
    """Copies contents for one tree; remembers which ways do not work there.

    Attributes:
        cloned: files whose blocks are shared with the original.
        copied: bytes of data really copied.
    """

    __slots__ = ("_can_clone", "_can_range", "_checkpoint", "cloned", "copied")

    def __init__(self, checkpoint: Callable[[], None]) -> None:
        self._checkpoint = checkpoint
        self._can_clone = True
        self._can_range = True
        self.cloned = 0
        self.copied = 0

    def copy(self, source: int, target: int, status: os.stat_result, name: bytes) -> None:
        """Copy everything from `source` to the new, empty file `target`; holes stay holes.

        Args:
            source: open for reading.
            target: open for writing.
            status: of the source.
            name: of the source, for messages.

        Raises:
            DataLoss: the source is shorter than `status` says.
            OSError: reading or writing failed.
        """
        size = status.st_size
        if size == 0:
            return
        if self._can_clone and self._clone(source, target):
            self.cloned += 1
            return
        for start, end in _data(source, status):
            if not self._copy_range(source, target, start, end):
                raise DataLoss(f"{name!r} is shorter than its size of {size} bytes")
        os.ftruncate(target, size)

    def _clone(self, source: int, target: int) -> bool:
        try:
            ficlone(target, source)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._can_clone = False
        return self._can_clone

    def _copy_range(self, source: int, target: int, position: int, end: int) -> bool:
        while position < end:
            self._checkpoint()
            done = self._copy_some(source, target, position, min(CHUNK, end - position))
            if done == 0:
                return False
            position += done
            self.copied += done
        return True

    def _copy_some(self, source: int, target: int, position: int, count: int) -> int:
        if self._can_range:
            try:
                done = os.copy_file_range(source, target, count, position, position)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._can_range = False
            else:
                # Some filesystems answer 0 for files that they cannot copy: read() decides.
                if done:
                    return done
        block = os.pread(source, min(count, 1 << 20), position)
        written = 0
        while written < len(block):
            written += os.pwrite(target, block[written:], position + written)
        return written


def _data(source: int, status: os.stat_result) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that hold data (lseek(2), SEEK_DATA and SEEK_HOLE)."""
    size = status.st_size
    if stat.S_ISREG(status.st_mode) and status.st_blocks * 512 >= size:
        yield 0, size
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            if error.errno != errno.EINVAL:
                raise
            start, position = position, size
        else:
            position = os.lseek(source, start, os.SEEK_HOLE)
        yield start, min(position, size)
