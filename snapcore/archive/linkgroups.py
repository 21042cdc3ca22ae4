"""Copying a file up: a hard link to a file of the layers below needs it in the upper directory.

All names of the file come along, or the link group would fall apart, and the tree would differ
from one where everything lies in one directory.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from snapcore.archive.attributes import Attributes, name_path, read_xattrs
from snapcore.archive.merged import Directory, MergedTree

_CHUNK: Final = 1 << 24
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class CopyUp:
    """Copies files from the tree below into the written directory."""

    def __init__(self, tree: MergedTree, attributes: Attributes) -> None:
        self._tree = tree
        self._attributes = attributes
        self._groups: dict[tuple[int, int], list[tuple[bytes, ...]]] | None = None

    def file(self, parts: tuple[bytes, ...]) -> None:
        """Copy up a file that is only below, and link all its other visible names to the copy.

        Raises:
            OSError: as the calls that read and write.
        """
        directory = self._open(parts[:-1])
        try:
            status = self._tree.look_below(directory, parts[-1])
            if status is None:
                return
            self._copy(directory, parts[-1], status)
            if status.st_nlink > 1:
                self._link_others(directory, parts, status)
        finally:
            self._tree.release(directory)

    def _link_others(
        self, directory: Directory, parts: tuple[bytes, ...], status: os.stat_result
    ) -> None:
        for other in self._names(status):
            if other == parts or not self._visible(other, status):
                continue
            parent = self._open(other[:-1])
            try:
                os.link(
                    parts[-1],
                    other[-1],
                    src_dir_fd=directory.upper,
                    dst_dir_fd=parent.upper,
                    follow_symlinks=False,
                )
            finally:
                self._tree.release(parent)

    def _names(self, status: os.stat_result) -> list[tuple[bytes, ...]]:
        if self._groups is None:
            self._groups = {}
            for parts, below in self._tree.names_below():
                self._groups.setdefault((below.st_dev, below.st_ino), []).append(parts)
        return self._groups.get((status.st_dev, status.st_ino), [])

    def _visible(self, parts: tuple[bytes, ...], status: os.stat_result) -> bool:
        directory = self._tree.root
        for part in parts[:-1]:
            found = self._tree.look(directory, part)
            if found is None or not stat.S_ISDIR(found.status.st_mode):
                self._tree.release(directory)
                return False
            inner = self._tree.enter(directory, part, found, make=False)
            self._tree.release(directory)
            directory = inner
        found = self._tree.look(directory, parts[-1])
        self._tree.release(directory)
        return bool(found and not found.in_upper and os.path.samestat(found.status, status))

    def _open(self, parts: tuple[bytes, ...]) -> Directory:
        directory = self._tree.resolve(parts, make=True)
        if directory is None:
            raise FileNotFoundError(b"/".join(parts))
        return directory

    def _copy(self, directory: Directory, name: bytes, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_data(directory, name, status)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=directory.lower), name, dir_fd=directory.upper)
        else:
            os.mknod(
                name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=directory.upper
            )
        self._attributes.own_name(directory.upper, name, status.st_uid, status.st_gid)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory.upper)
        xattrs = read_xattrs(name_path(directory.lower, name))
        self._attributes.set_xattrs(name_path(directory.upper, name), xattrs)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=directory.upper, follow_symlinks=False)

    def _copy_data(self, directory: Directory, name: bytes, status: os.stat_result) -> None:
        source = os.open(name, _READ, dir_fd=directory.lower)
        try:
            target = os.open(name, _CREATE, 0o600, dir_fd=directory.upper)
            try:
                # The source lies on an overlay, so that copy_file_range(2) would say EXDEV.
                offset = 0
                while copied := os.sendfile(target, source, offset, _CHUNK):
                    offset += copied
                self._attributes.own(target, status.st_uid, status.st_gid)
                os.fchmod(target, stat.S_IMODE(status.st_mode))
                self._attributes.set_xattrs(target, read_xattrs(source))
                os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)
