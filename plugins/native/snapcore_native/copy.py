"""Copying a whole tree: same bytes, same holes, same links, same attributes, same times.

By directory descriptors and without recursion, so that neither the depth of a tree nor its
names matter. Only the current directory is open on both sides; the way up is `..`, checked
by inode, since both trees are this process's own for as long as the copy runs.

Sockets are copied as nodes: nobody listens there, but the copy shows what the original shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from snapcore.errors import DataLoss, SnapcoreError, from_os_error
from snapcore_native.attributes import copy_attributes, copy_attributes_at
from snapcore_native.data import DataCopier

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did.

    Attributes:
        entries: names copied, hard links each by itself, without the root.
        cloned: files that share their blocks with the original.
        copied: bytes of data really copied.
    """

    entries: int
    cloned: int
    copied: int


@dataclass(slots=True)
class _Level:
    """One directory on the way down: itself on both sides, and what is still to be done."""

    status: os.stat_result
    target_inode: int
    pending: list[bytes]


def copy_tree(source: str, target: str, spare: str, checkpoint: Callable[[], None]) -> CopyReport:
    """Copy the directory `source` into the empty directory `target`, root attributes included.

    Args:
        source: a directory that nobody changes meanwhile.
        target: an empty directory of this process's own.
        spare: an empty directory on the target's filesystem; holds one name of each unfinished
            hard-link group, and is empty again afterwards.
        checkpoint: called for every entry and every `CHUNK` bytes; what it raises goes through.

    Returns:
        What was done.

    Raises:
        PermissionDenied: an owner, device or xattr that this process may not give.
        ResourceExhausted: no space, quota or inodes left.
        DataLoss: the source cannot be read as it should, or changed.
        FailedPrecondition: the filesystem refuses something else.
    """
    copier = _TreeCopier(source, target, spare, checkpoint)
    try:
        return copier.run()
    except OSError as error:
        raise copier.failure(error) from error
    finally:
        copier.close()


class _TreeCopier:
    __slots__ = (
        "_checkpoint",
        "_data",
        "_entries",
        "_levels",
        "_links",
        "_name",
        "_source",
        "_source_path",
        "_spare",
        "_target",
    )

    def __init__(
        self, source: str, target: str, spare: str, checkpoint: Callable[[], None]
    ) -> None:
        self._source_path = source
        self._checkpoint = checkpoint
        self._data = DataCopier(checkpoint)
        self._entries = 0
        self._levels: list[_Level] = []
        self._links: dict[int, int] = {}
        self._name = b""
        self._source = self._target = self._spare = -1
        try:
            self._source = os.open(source, _DIRECTORY)
            self._target = os.open(target, _DIRECTORY)
            self._spare = os.open(spare, _DIRECTORY)
        except OSError as error:
            self.close()
            raise from_os_error(error, f"copy of {source!r} to {target!r}") from error

    def close(self) -> None:
        for descriptor in (self._source, self._target, self._spare):
            if descriptor >= 0:
                os.close(descriptor)
        self._source = self._target = self._spare = -1

    def failure(self, error: OSError) -> SnapcoreError:
        return from_os_error(error, f"copying {self._name!r} of {self._source_path!r}")

    def run(self) -> CopyReport:
        self._enter()
        while self._levels:
            level = self._levels[-1]
            if level.pending:
                self._descend(level.pending.pop())
            else:
                self._leave(level)
        for inode in self._links:
            os.unlink(b"%d" % inode, dir_fd=self._spare)
        return CopyReport(self._entries, self._data.cloned, self._data.copied)

    def _enter(self) -> None:
        """Copy all but the directories of the directory that was just opened."""
        pending: list[bytes] = []
        with os.scandir(self._source) as entries:
            for entry in entries:
                self._checkpoint()
                self._entries += 1
                self._name = name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.is_file(follow_symlinks=False):
                    self._copy_file(name)
                else:
                    self._copy_node(name)
        status, inode = os.fstat(self._source), os.fstat(self._target).st_ino
        self._levels.append(_Level(status, inode, pending))

    def _descend(self, name: bytes) -> None:
        self._name = name
        os.mkdir(name, 0o700, dir_fd=self._target)
        self._move(name)
        self._enter()

    def _leave(self, level: _Level) -> None:
        # Last of all, for whatever happens inside a directory changes its mtime.
        copy_attributes(self._source, self._target, level.status)
        self._levels.pop()
        if not self._levels:
            return
        self._move(b"..")
        above = self._levels[-1]
        here = (os.fstat(self._source).st_ino, os.fstat(self._target).st_ino)
        if here != (above.status.st_ino, above.target_inode):
            raise DataLoss(f"{self._source_path!r} was moved or replaced while it was copied")

    def _move(self, name: bytes) -> None:
        source = os.open(name, _DIRECTORY, dir_fd=self._source)
        os.close(self._source)
        self._source = source
        target = os.open(name, _DIRECTORY, dir_fd=self._target)
        os.close(self._target)
        self._target = target

    def _copy_file(self, name: bytes) -> None:
        source = os.open(name, _READ, dir_fd=self._source)
        try:
            status = os.fstat(source)
            if status.st_nlink > 1 and self._link(name, status):
                return
            target = os.open(name, _CREATE, 0o600, dir_fd=self._target)
            try:
                self._data.copy(source, target, status, name)
                copy_attributes(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)
        if status.st_nlink > 1:
            self._first_link(name, status)

    def _copy_node(self, name: bytes) -> None:
        status = os.stat(name, dir_fd=self._source, follow_symlinks=False)
        if status.st_nlink > 1 and self._link(name, status):
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=self._source), name, dir_fd=self._target)
        else:
            kind = stat.S_IFMT(status.st_mode)
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=self._target)
        copy_attributes_at(self._source, self._target, name, status)
        if status.st_nlink > 1:
            self._first_link(name, status)

    # A hard-link group keeps one more name in the spare directory until its last name is
    # made, which is then moved from there. So no path and no descriptor is kept for a group,
    # and a group as large as the filesystem allows still fits.

    def _link(self, name: bytes, status: os.stat_result) -> bool:
        left = self._links.get(status.st_ino)
        if left is None:
            return False
        kept = b"%d" % status.st_ino
        if left == 1:
            os.rename(kept, name, src_dir_fd=self._spare, dst_dir_fd=self._target)
            del self._links[status.st_ino]
        else:
            os.link(
                kept,
                name,
                src_dir_fd=self._spare,
                dst_dir_fd=self._target,
                follow_symlinks=False,
            )
            self._links[status.st_ino] = left - 1
        return True

    def _first_link(self, name: bytes, status: os.stat_result) -> None:
        os.link(
            name,
            b"%d" % status.st_ino,
            src_dir_fd=self._target,
            dst_dir_fd=self._spare,
            follow_symlinks=False,
        )
        self._links[status.st_ino] = status.st_nlink - 1
