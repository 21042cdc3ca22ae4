"""The requests of a read-only filesystem, answered from packed tables.

The root directory has one directory for each snapshot, named by its id. All below is immutable:
the kernel may keep what it was told for ever. Only names in the root come and go; what is not
there is not remembered, and what goes is taken from the kernel by `FuseTransport.forget`.

Methods mirror the operations of FUSE (libfuse, fuse_lowlevel.h) and know no transport. Each
raises OSError and nothing else. A handle is the inode's number, so nothing is kept for open
files and nothing is lost when the process is replaced.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from snapcore_fuse.serve.errors import answering, failure
from snapcore_fuse.serve.types import (
    ROOT,
    Found,
    Served,
    Space,
    inode_number,
    split_inode,
)
from snapcore_fuse.tables import Status

_MAX_NAME: Final = 255
_ROOT_STATUS: Final = Status(stat.S_IFDIR | 0o755, 0, 0, 1, 0, 0, 0)
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
_log: Final = logging.getLogger(__name__)


class Handlers:
    """Answers the requests for one mount."""

    def __init__(self, trees: Mapping[int, Served]) -> None:
        """Serve trees by the ids of their snapshots, which are positive and never used again.

        Args:
            trees: may change at any time; ids that go need `FuseTransport.forget`.
        """
        self._trees: Final = trees

    @answering
    async def lookup(self, parent: int, name: bytes) -> Found | None:
        """Return what a directory has under a name; None if it will never have anything."""
        if len(name) > _MAX_NAME:
            raise failure(errno.ENAMETOOLONG)
        if parent == ROOT:
            return self._snapshot(name)
        snapshot, served, index = self._find(parent)
        child = served.table.lookup(index, name)
        return None if child is None else self._found(snapshot, served, child)

    @answering
    async def getattr(self, inode: int) -> Found:
        """Return what stat(2) says."""
        return Found(ROOT, _ROOT_STATUS) if inode == ROOT else self._found(*self._find(inode))

    @answering
    async def readlink(self, inode: int) -> bytes:
        """Return the target of a symlink."""
        _, served, index = self._find(inode)
        target = served.table.target(index)
        if not target:
            raise failure(errno.EINVAL)
        return target

    @answering
    async def open(self, inode: int, flags: int) -> int:
        """Return a handle of a file, for reading only."""
        if flags & _WRITING:
            raise failure(errno.EROFS)
        self._find(inode)
        return inode

    @answering
    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of a file, fewer than asked for only at its end."""
        _, served, index = self._find(handle)
        place = served.table.place(index)
        if place is None or offset >= place.size:
            return b""
        wanted = min(size, place.size - offset)
        start, end = place.start + offset, place.start + place.size
        data = await served.read(place.source, start, wanted, end)
        if len(data) != wanted:
            _log.error("inode %d: %d bytes came for %d", handle, len(data), wanted)
            raise failure(errno.EIO)
        return data

    @answering
    async def release(self, handle: int) -> None:
        """Close a file: there is nothing to do."""

    @answering
    async def flush(self, handle: int) -> None:
        """Say that closing needs no request; the kernel sends none again.

        Raises:
            OSError: ENOSYS.
        """
        del handle
        raise failure(errno.ENOSYS)

    @answering
    async def access(self, inode: int, mode: int) -> None:
        """Say that the kernel checks access itself; it does not ask again.

        Raises:
            OSError: ENOSYS.
        """
        del inode, mode
        raise failure(errno.ENOSYS)

    @answering
    async def opendir(self, inode: int) -> int:
        """Return a handle of a directory."""
        if inode != ROOT:
            self._find(inode)
        return inode

    @answering
    async def readdirplus(
        self, handle: int, after: int, emit: Callable[[bytes, Found, int], bool]
    ) -> None:
        """Give the names of a directory, in an order that never changes.

        Args:
            handle: of the directory.
            after: 0, or what `emit` was given with the last name that was taken.
            emit: takes a name, what is there, and where to go on; False when there is no room.
        """
        if handle == ROOT:
            self._list_snapshots(after, emit)
            return
        snapshot, served, index = self._find(handle)
        children = served.table.children(index, after)
        for position, (name, child) in enumerate(children, after + 1):
            if not emit(name, self._found(snapshot, served, child), position):
                return

    @answering
    async def getxattr(self, inode: int, name: bytes) -> bytes:
        """Return the value of an xattr.

        Raises:
            OSError: ENODATA, as for most of what overlayfs asks for.
        """
        if inode != ROOT:
            _, served, index = self._find(inode)
            value = served.table.xattrs(index).get(name)
            if value is not None:
                return value
        raise failure(errno.ENODATA)

    @answering
    async def listxattr(self, inode: int) -> Sequence[bytes]:
        """Return the names of all xattrs."""
        if inode == ROOT:
            return ()
        _, served, index = self._find(inode)
        return tuple(served.table.xattrs(index))

    @answering
    async def statfs(self) -> Space:
        """Return how much there is; nothing is free."""
        tables = [served.table for served in self._trees.values()]
        return Space(sum(table.size for table in tables), sum(table.count for table in tables))

    def _find(self, inode: int) -> tuple[int, Served, int]:
        snapshot, index = split_inode(inode)
        served = self._trees.get(snapshot)
        if served is None or not 0 <= index < served.table.count:
            raise failure(errno.ESTALE)
        return snapshot, served, index

    @staticmethod
    def _found(snapshot: int, served: Served, index: int) -> Found:
        return Found(inode_number(snapshot, index), served.table.attributes(index))

    def _snapshot(self, name: bytes) -> Found:
        snapshot = int(name) if name.isdigit() and name[:1] != b"0" else 0
        served = self._trees.get(snapshot)
        if served is None:
            raise failure(errno.ENOENT)
        return self._found(snapshot, served, 0)

    def _list_snapshots(self, after: int, emit: Callable[[bytes, Found, int], bool]) -> None:
        for snapshot in sorted(self._trees):
            if snapshot > after:
                found = self._found(snapshot, self._trees[snapshot], 0)
                if not emit(b"%d" % snapshot, found, snapshot):
                    return
