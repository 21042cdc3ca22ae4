"""Copying snapshotters that lose something of what they copy, or hand out the wrong place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import (
    Checkpoint,
    Info,
    Labels,
    LayerTarget,
    Mounts,
    Reclaimed,
    Usage,
    hookimpl,
    no_checkpoint,
)
from snapcore_native import NativeSnapshotter


class _Spoils(NativeSnapshotter):
    """Does something to each path of a new copy."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        if parent:
            for path in list(_paths(mounts[0].source)):
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


class PrivateRoot(NativeSnapshotter):
    """The root directory of a snapshot is for root alone."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        os.chmod(mounts[0].source, 0o700)
        return mounts


class Polluted(NativeSnapshotter):
    """A new snapshot is not empty."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        with open(os.path.join(mounts[0].source, "left over"), "wb"):
            return mounts


class ViewWritableThroughABind(NativeSnapshotter):
    """A view is a bind mount of the parent's own directory, and writable."""

    __slots__ = ()

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().view(key, parent, labels, checkpoint)
        return tuple(replace(mount, options=("rbind", "rw")) for mount in mounts)


class SharesTheParent(NativeSnapshotter):
    """An Active on a parent is the parent's own directory."""

    __slots__ = ()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, checkpoint)
        if not parent:
            return mounts
        below = super().view(f"{key} below", parent, {}, no_checkpoint)
        super().remove(f"{key} below", no_checkpoint)
        return (replace(mounts[0], source=below[0].source),)


class CountsNames(NativeSnapshotter):
    """The usage is the sum of what `ls -l` shows: each link, and each hole."""

    __slots__ = ()

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        usage = super().usage(key, checkpoint)
        sizes = [os.lstat(path).st_size for path in _paths(self.mounts(key)[0].source)]
        return replace(usage, size=sum(sizes), inodes=len(sizes), delta=sum(sizes))


class NeverCleans(NativeSnapshotter):
    """Cleanup does nothing, and neither does anything else."""

    __slots__ = ()

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        return Reclaimed()


class CleansTheLiving(NativeSnapshotter):
    """Cleanup empties what is mounted."""

    __slots__ = ()

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        for info in self.walk((), "", 1000).infos:
            if info.kind.value == "active":
                for path in _paths(self.mounts(info.name)[0].source):
                    if os.path.isfile(path):
                        os.unlink(path)
        return super().cleanup(checkpoint)


class WrongWhiteouts(NativeSnapshotter):
    """Has deletions marked as an overlay would need them, and shows the marks."""

    __slots__ = ()

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        place = super().target(key)
        parent = self.stat(key).parent
        if not parent:
            return place
        below = super().view(f"{key} below", parent, {}, no_checkpoint)
        super().remove(f"{key} below", no_checkpoint)
        return LayerTarget(place.directory, (below[0].source,), WhiteoutStyle.OVERLAY)


class StoresOldUsage(NativeSnapshotter):
    """What commit stores as usage is not what there is."""

    __slots__ = ()

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        place = self.target(key).directory
        with open(os.path.join(place, ".usage"), "wb") as stream:
            stream.write(bytes(100_000))
        info = super().commit(name, key, labels, parent, checkpoint)
        os.unlink(os.path.join(place, ".usage"))
        return info


def _paths(top: str) -> Iterator[bytes]:
    for directory, names, files in os.walk(os.fsencode(top), topdown=False):
        for name in (*names, *files):
            yield os.path.join(directory, name)
