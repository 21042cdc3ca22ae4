"""Copying files up: a hard link to a file of the layers below needs it in the upper directory.

All other names of that file come along, or the group of links would fall apart and the tree
would differ from one in which everything lies in one directory.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from snapcore.archive.deferred import open_directory
from snapcore.archive.failures import Blocked, Path
from snapcore.archive.handles import Directory
from snapcore.archive.metadata import AttributeWriter, change_mode, node_place, read_xattrs
from snapcore.archive.tree import MergedTree
from snapcore.linux import ficlone

_CHUNK: Final = 1 << 30
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_CLONE: Final = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


class CopyUp:
    """Copies files of the lower tree into the upper one."""

    def __init__(self, tree: MergedTree, writer: AttributeWriter, lower: int) -> None:
        """Copy from the merged tree below whose root is the descriptor `lower`."""
        self._tree: Final = tree
        self._writer: Final = writer
        self._lower: Final = lower
        self._groups: dict[tuple[int, int], list[Path]] | None = None

    def file(self, path: Path) -> None:
        """Copy up a node that is only below, and link its other visible names to the copy.

        Args:
            path: canonical path of something that is no directory.

        Raises:
            Blocked: it is not there.
            OSError: as the calls that read, write and make.
        """
        directory = self._tree.enter(path[:-1])
        try:
            assert directory.lower is not None
            status = os.stat(path[-1], dir_fd=directory.lower, follow_symlinks=False)
            self._copy(directory, directory.lower, path[-1], status)
            if status.st_nlink > 1:
                for other in self._names(status):
                    if other != path:
                        self._link(directory.upper, path[-1], other)
        finally:
            directory.close()

    def _link(self, directory: int, name: bytes, other: Path) -> None:
        if not self._shines_through(other):
            return
        parent = self._tree.enter(other[:-1])
        try:
            os.link(
                name,
                other[-1],
                src_dir_fd=directory,
                dst_dir_fd=parent.upper,
                follow_symlinks=False,
            )
        finally:
            parent.close()

    def _shines_through(self, path: Path) -> bool:
        """Tell whether a path of the lower tree is still the one that the merged tree shows."""
        try:
            seen = self._tree.see_plain(path[:-1])
        except Blocked:
            return False
        try:
            found = self._tree.find(seen, path[-1])
            return found is not None and not found[1]
        finally:
            seen.close()

    def _names(self, status: os.stat_result) -> list[Path]:
        if self._groups is None:
            self._groups = self._find_groups()
        return self._groups.get((status.st_dev, status.st_ino), [])

    def _find_groups(self) -> dict[tuple[int, int], list[Path]]:
        groups: dict[tuple[int, int], list[Path]] = {}
        pending: list[Path] = [()]
        while pending:
            path = pending.pop()
            directory = open_directory(self._lower, path)
            try:
                for text in os.listdir(directory):
                    name = os.fsencode(text)
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append((*path, name))
                    elif status.st_nlink > 1:
                        groups.setdefault((status.st_dev, status.st_ino), []).append((*path, name))
            finally:
                os.close(directory)
        return groups

    def _copy(self, target: Directory, source: int, name: bytes, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_file(target, source, name, status)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target.upper)
        else:
            kind = stat.S_IFMT(status.st_mode)
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target.upper)
        owner = self._writer.owner(status.st_uid, status.st_gid)
        os.chown(name, *owner, dir_fd=target.upper, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            change_mode(target.upper, name, stat.S_IMODE(status.st_mode))
            xattrs = read_xattrs(node_place(source, name), follow=False)
            self._writer.replace_xattrs(node_place(target.upper, name), xattrs)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target.upper, follow_symlinks=False)

    def _copy_file(
        self, target: Directory, source: int, name: bytes, status: os.stat_result
    ) -> None:
        reading = os.open(name, _READ, dir_fd=source)
        try:
            writing = os.open(name, _CREATE, 0o600, dir_fd=target.upper)
            try:
                copy_data(reading, writing, status.st_size)
                os.fchown(writing, *self._writer.owner(status.st_uid, status.st_gid))
                os.fchmod(writing, stat.S_IMODE(status.st_mode))
                self._writer.replace_xattrs(writing, read_xattrs(reading))
                os.utime(writing, ns=(status.st_mtime_ns, status.st_mtime_ns))
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def copy_data(source: int, target: int, size: int) -> None:
    """Copy an open file into an empty one, sharing blocks where the filesystem can.

    Raises:
        OSError: as copy_file_range(2).
    """
    try:
        ficlone(target, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    else:
        return
    while size > 0:
        copied = _copy_some(source, target, min(size, _CHUNK))
        if not copied:
            return
        size -= copied


def _copy_some(source: int, target: int, size: int) -> int:
    try:
        return os.copy_file_range(source, target, size)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    # Two filesystems, on kernels that cannot copy between them.
    return os.sendfile(target, source, None, size)
