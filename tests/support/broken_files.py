"""Copying snapshotters that hand out the wrong place, or count and clean up wrongly."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace

from snapcore.errors import NotFound
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
)
from snapcore_native import NativeSnapshotter
from support.broken_commits import parent_tree
from support.broken_copies import paths


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
        return (replace(mounts[0], source=parent_tree(self, parent)),)


class CountsNames(NativeSnapshotter):
    """The usage is the sum of what `ls -l` shows: each link, and each hole."""

    __slots__ = ()

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        usage = super().usage(key, checkpoint)
        sizes = [os.lstat(path).st_size for path in paths(self.mounts(key)[0].source)]
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
                for path in paths(self.mounts(info.name)[0].source):
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
        return LayerTarget(place.directory, (parent_tree(self, parent),), WhiteoutStyle.OVERLAY)


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


class LowersForApply(NativeSnapshotter):
    """Has a layer applied to all there is, and names what lies below nevertheless."""

    __slots__ = ()

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        place = super().target(key)
        parent = self.stat(key).parent
        return replace(place, lowers=(parent_tree(self, parent),)) if parent else place


class TargetElsewhere(NativeSnapshotter):
    """A layer goes where nobody looks."""

    __slots__ = ()

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        place = super().target(key)
        beside = f"{place.directory}-new"
        os.makedirs(beside, exist_ok=True)
        return replace(place, directory=beside)


class ReplacesNothing(NativeSnapshotter):
    """What takes the place of a broken snapshot has that one's files."""

    __slots__ = ()

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        target = self.target(key).directory
        with suppress(NotFound):
            number = self._records.get(name).id
            shutil.copytree(self._tree(number), target, dirs_exist_ok=True)
        return super().commit(name, key, labels, parent, checkpoint)
