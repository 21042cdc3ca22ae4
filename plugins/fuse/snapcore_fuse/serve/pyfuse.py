"""The transport by pyfuse3: libfuse's session, one a process, and trio.

The only module that knows pyfuse3. It turns what the handlers say into pyfuse3's objects and
every OSError into FUSEError: any other exception would end the session and so the mount.
"""

# ruff: noqa: ARG002 - what handlers are given is pyfuse3's to say

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    StatvfsData,
    XAttrNameT,
)

from snapcore.errors import FailedPrecondition, from_os_error
from snapcore_fuse.serve.handlers import Handlers
from snapcore_fuse.serve.mounts import MountSettings, set_read_ahead
from snapcore_fuse.serve.types import Found

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)

_FOREVER: Final = 1e9
"""Seconds: all that is served is immutable."""
_BLOCK: Final = 4096
_SECTOR: Final = 512
_MAX_NAME: Final = 255
_HOT: Final = 8192
"""Attribute objects that are kept: some 1.7 KB each."""
_TASKS: Final = 64
"""Requests that may wait for bytes at the same time."""


def _fuse_errors(method: Callable[_P, Awaitable[_T]]) -> Callable[_P, Coroutine[None, None, _T]]:
    @functools.wraps(method)
    async def answer(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(*args, **kwargs)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from error
        except Exception as error:
            _log.exception("%s could not be answered", method.__name__)
            raise FUSEError(errno.EIO) from error

    return answer


class _HotSet:
    """Attribute objects by inode: the newest ones only."""

    def __init__(self) -> None:
        self._kept: dict[int, EntryAttributes] = {}

    def entry(self, found: Found) -> EntryAttributes:
        """Return the attribute object of an inode."""
        kept = self._kept.get(found.inode)
        if kept is None:
            if len(self._kept) >= _HOT:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[found.inode] = _entry(found)
        return kept

    def drop(self, snapshot: int) -> None:
        """Forget the inodes of a snapshot."""
        for inode in [inode for inode in self._kept if inode >> 32 == snapshot]:
            del self._kept[inode]


def _entry(found: Found) -> EntryAttributes:
    status, entry = found.status, EntryAttributes()
    entry.st_ino = InodeT(found.inode)
    entry.generation = 0
    entry.entry_timeout = _FOREVER
    entry.attr_timeout = _FOREVER
    entry.st_mode = ModeT(status.mode)
    entry.st_nlink = status.links
    entry.st_uid = status.uid
    entry.st_gid = status.gid
    entry.st_rdev = status.device
    entry.st_size = status.size
    entry.st_blksize = _BLOCK
    entry.st_blocks = -(-status.size // _SECTOR)
    entry.st_atime_ns = status.mtime
    entry.st_mtime_ns = status.mtime
    entry.st_ctime_ns = status.mtime
    return entry


def _nothing() -> EntryAttributes:
    """Return what makes the kernel remember that there is nothing."""
    entry = EntryAttributes()
    entry.st_ino = InodeT(0)
    entry.entry_timeout = _FOREVER
    return entry


class _Operations(pyfuse3.Operations):
    """Handlers as pyfuse3 calls them."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, handlers: Handlers, hot: _HotSet) -> None:
        super().__init__()
        self._handlers: Final = handlers
        self._hot: Final = hot
        self._none: Final = _nothing()

    @_fuse_errors
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        found = await self._handlers.lookup(parent_inode, name)
        return self._none if found is None else self._hot.entry(found)

    @_fuse_errors
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._hot.entry(await self._handlers.getattr(inode))

    @_fuse_errors
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(await self._handlers.readlink(inode))

    @_fuse_errors
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        handle = await self._handlers.open(inode, flags)
        return FileInfo(fh=FileHandleT(handle), keep_cache=True)

    @_fuse_errors
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return await self._handlers.read(fh, off, size)

    @_fuse_errors
    async def release(self, fh: FileHandleT) -> None:
        await self._handlers.release(fh)

    @_fuse_errors
    async def flush(self, fh: FileHandleT) -> None:
        await self._handlers.flush(fh)

    @_fuse_errors
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        await self._handlers.access(inode, mode)
        return True

    @_fuse_errors
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(await self._handlers.opendir(inode))

    @_fuse_errors
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        def emit(name: bytes, found: Found, following: int) -> bool:
            entry = self._hot.entry(found)
            return pyfuse3.readdir_reply(token, FileNameT(name), entry, following)

        await self._handlers.readdirplus(fh, start_id, emit)

    @_fuse_errors
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return await self._handlers.getxattr(inode, name)

    @_fuse_errors
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in await self._handlers.listxattr(inode)]

    @_fuse_errors
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        space = await self._handlers.statfs()
        data = StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK
        data.f_blocks = -(-space.size // _BLOCK)
        data.f_bfree = data.f_bavail = data.f_ffree = data.f_favail = 0
        data.f_files = space.files
        data.f_namemax = _MAX_NAME
        return data


class PyfuseTransport:
    """A `FuseTransport`; one a process, since libfuse's session is kept in global state."""

    def __init__(self, settings: MountSettings | None = None) -> None:
        """Mount as the settings say."""
        self._settings: Final = settings or MountSettings()
        self._hot: Final = _HotSet()
        self._running = False

    async def run(self, handlers: Handlers, mountpoint: str, started: Callable[[], None]) -> None:
        """See `FuseTransport.run`.

        Raises:
            FailedPrecondition: it cannot be mounted: no /dev/fuse, no privilege, no such place.
        """
        try:
            os.stat(mountpoint)
            pyfuse3.init(_Operations(handlers, self._hot), mountpoint, set(self._settings.options))
        except OSError as error:
            raise from_os_error(error, f"mounting at {mountpoint!r}") from error
        except RuntimeError as error:
            why = "is /dev/fuse there, and may this process mount?"
            raise FailedPrecondition(f"mounting at {mountpoint!r}: {error}; {why}") from error
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._start, mountpoint, started)
                await pyfuse3.main(max_tasks=_TASKS)
                nursery.cancel_scope.cancel()
        finally:
            self._running = False
            pyfuse3.close(unmount=True)

    async def _start(self, mountpoint: str, started: Callable[[], None]) -> None:
        # Asks the mount itself, so not in this thread; given up when the session ends first.
        try:
            await trio.to_thread.run_sync(
                set_read_ahead, mountpoint, self._settings.read_ahead, abandon_on_cancel=True
            )
        except OSError as error:
            _log.warning("%r went away before it was served: %s", mountpoint, error)
        else:
            started()

    def forget(self, snapshot: int) -> None:
        """See `FuseTransport.forget`."""
        self._hot.drop(snapshot)
        if self._running:
            name = FileNameT(b"%d" % snapshot)
            pyfuse3.invalidate_entry_async(pyfuse3.ROOT_INODE, name, ignore_enoent=True)
