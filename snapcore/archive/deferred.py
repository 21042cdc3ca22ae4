"""Times and tight modes of directories, set when all else is done.

Making and removing names changes a directory's mtime, so each one that a layer works in is
written down with the time it shall have in the end. The end is a second chance for a hostile
layer: a directory may have been replaced by then. So each is opened anew without following any
symlink, and left alone if it is not the same inode.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from snapcore.archive.failures import Path
from snapcore.linux import Resolve, openat2

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
# PATH_MAX is 4096: fifteen components of at most 255 bytes always fit.
_CHUNK: Final = 4000
_CHUNK_COMPONENTS: Final = 15
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class _Record(NamedTuple):
    device: int
    inode: int
    mtime: int
    mode: int | None


class DeferredDirectories:
    """The directories that must be put right at the end."""

    def __init__(self) -> None:
        self._records: dict[Path, _Record] = {}

    def keeps(self, path: Path) -> bool:
        """Tell whether a directory is written down already."""
        return path in self._records

    def set(self, path: Path, status: os.stat_result, mtime: int, mode: int) -> None:
        """Write down what a directory shall be in the end, over what was said before.

        Args:
            path: canonical path.
            status: of the directory as it is now, to recognise it.
            mtime: nanoseconds since the epoch.
            mode: its final mode; it is kept until then only if its owner has all access.
        """
        late = mode if mode & stat.S_IRWXU != stat.S_IRWXU else None
        self._records[path] = _Record(status.st_dev, status.st_ino, mtime, late)

    def carry_out(self, root: int) -> None:
        """Set everything that was written down, below the open directory `root`.

        Raises:
            OSError: as fchmod(2), futimens(2).
        """
        # Deepest first: a parent that loses its owner's access would hide its children.
        for path in sorted(self._records, key=len, reverse=True):
            try:
                directory = open_directory(root, path)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            try:
                _put_right(directory, self._records[path])
            finally:
                os.close(directory)


def open_directory(root: int, path: Path) -> int:
    """Open a directory by its canonical path, however long, through real directories only.

    Raises:
        OSError: ENOENT, ENOTDIR or ELOOP if it is not there.
    """
    here = os.open(b".", _OPEN | os.O_CLOEXEC, dir_fd=root)
    for chunk in _chunks(path):
        try:
            below = openat2(here, chunk, _OPEN, _RESOLVE)
        finally:
            os.close(here)
        here = below
    return here


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield pieces of a path that are short enough for one system call."""
    whole = b"/".join(path)
    if len(whole) <= _CHUNK:
        if whole:
            yield whole
        return
    for start in range(0, len(path), _CHUNK_COMPONENTS):
        yield b"/".join(path[start : start + _CHUNK_COMPONENTS])


def _put_right(directory: int, record: _Record) -> None:
    status = os.fstat(directory)
    if (status.st_dev, status.st_ino) != (record.device, record.inode):
        return
    if record.mode is not None:
        os.fchmod(directory, record.mode)
    os.utime(directory, ns=(record.mtime, record.mtime))
