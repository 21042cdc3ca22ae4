"""Copying snapshotters that lose something of what they copy."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

from snapcore.snapshots import Checkpoint, Labels, Mounts, Usage, hookimpl, no_checkpoint
from snapcore_native import NativeSnapshotter


class _Spoils(NativeSnapshotter):
    """Does something to each path of a new copy."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        if parent:
            for path in list(paths(mounts[0].source)):
                self.spoil(path)
        return mounts

    def spoil(self, path: bytes) -> None:
        """Do it."""


class LosesXattrs(_Spoils):
    """Copies have no extended attributes."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)


class WholeSeconds(_Spoils):
    """Copies have times in whole seconds."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        seconds = os.lstat(path).st_mtime_ns // 10**9 * 10**9
        os.utime(path, ns=(seconds, seconds), follow_symlinks=False)


class SplitsLinks(_Spoils):
    """Each name of a file becomes a file."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        if os.path.isfile(path) and not os.path.islink(path) and os.lstat(path).st_nlink > 1:
            shutil.copy2(path, path + b"~")
            os.rename(path + b"~", path)


class FillsHoles(_Spoils):
    """Holes in copies take space."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb+") as stream:
                os.posix_fallocate(stream.fileno(), 0, min(os.lstat(path).st_size, 1 << 21) or 1)


class DropsSpecialFiles(_Spoils):
    """FIFOs and sockets are left out of copies."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        if not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path)):
            os.unlink(path)


class LosesSetuid(_Spoils):
    """Copies belong to root, and chown has taken their setuid bits away."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        os.chown(path, 0, 0, follow_symlinks=False)


class FreshRoot(_Spoils):
    """The root directory of a copy is as that of an empty snapshot."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        os.chown(mounts[0].source, 0, 0)
        os.chmod(mounts[0].source, 0o755)
        return mounts


class ReadableNames(_Spoils):
    """Names in copies are UTF-8, whatever they were."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        directory, name = os.path.split(path)
        # Of a name of 255 bytes no more than that is left.
        readable = name.decode(errors="replace").encode()[:255]
        os.rename(path, os.path.join(directory, readable))


class WholeBlocks(_Spoils):
    """What does not fill a block is not copied."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            os.truncate(path, status.st_size // 4096 * 4096)


class ShortIds(_Spoils):
    """Ids have 16 bits."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        status = os.lstat(path)
        os.chown(path, status.st_uid & 0xFFFF, status.st_gid & 0xFFFF, follow_symlinks=False)


class OtherDevices(_Spoils):
    """Devices in copies have other numbers."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        status = os.lstat(path)
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            os.unlink(path)
            os.mknod(path, status.st_mode, os.makedev(1, 5))
            os.chown(path, status.st_uid, status.st_gid)
            os.chmod(path, stat.S_IMODE(status.st_mode))


class OnePageOfNames(NativeSnapshotter):
    """Of each directory five hundred names are copied."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        for directory, _, files in os.walk(mounts[0].source):
            for name in files[500:]:
                os.unlink(os.path.join(directory, name))
        return mounts


class CopiesWithoutAsking(NativeSnapshotter):
    """Copies to the end before it asks whether anybody still wants the copy."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, no_checkpoint)
        checkpoint()
        return mounts


class CountsWithoutAsking(NativeSnapshotter):
    """Goes through all files of a snapshot, whoever has stopped waiting for the sum."""

    __slots__ = ()

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        return super().usage(key, no_checkpoint)


class FollowsSymlinks(_Spoils):
    """A symlink to a directory becomes that directory."""

    __slots__ = ()

    def spoil(self, path: bytes) -> None:
        if os.path.islink(path) and os.path.isdir(path):
            os.unlink(path)
            os.mkdir(path)


def paths(top: str) -> Iterator[bytes]:
    """Yield all below a directory, what a directory holds before itself."""
    for directory, names, files in os.walk(os.fsencode(top), topdown=False):
        for name in (*names, *files):
            yield os.path.join(directory, name)
