"""Copying snapshotters that lose, as they commit, what has changed since their parent."""

from __future__ import annotations

import os
import shutil
import stat
from abc import abstractmethod

from snapcore.snapshots import Checkpoint, Info, Labels, hookimpl, no_checkpoint
from snapcore_native import NativeSnapshotter
from support.broken_copies import paths


class _Reverts(NativeSnapshotter):
    """Does something to an Active that is to be committed, for each path of its parent."""

    __slots__ = ()

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        below = self.stat(key).parent
        if below:
            source = parent_tree(self, below)
            target = os.fsencode(self.target(key).directory)
            for path in reversed(list(paths(source))):
                inside = os.path.relpath(path, os.fsencode(source))
                self.revert(path, os.path.join(target, inside))
        return super().commit(name, key, labels, parent, checkpoint)

    @abstractmethod
    def revert(self, below: bytes, path: bytes) -> None:
        """Do it to one path, which the parent has."""


class SeesChangesBySize(_Reverts):
    """A file that has its parent's size is its parent's file."""

    __slots__ = ()

    def revert(self, below: bytes, path: bytes) -> None:
        both = _is_file(below) and _is_file(path)
        if both and os.stat(below).st_size == os.stat(path).st_size:
            shutil.copyfile(below, path)


class ForgetsDeletions(_Reverts):
    """What was deleted, and nothing was put in its place, is there again."""

    __slots__ = ()

    def revert(self, below: bytes, path: bytes) -> None:
        if os.path.lexists(path) or not os.path.isdir(os.path.dirname(path)):
            return
        if os.path.isdir(below):
            os.mkdir(path)
        else:
            shutil.copy2(below, path, follow_symlinks=False)


class KeepsSymlinks(_Reverts):
    """A symlink in the parent is one for ever."""

    __slots__ = ()

    def revert(self, below: bytes, path: bytes) -> None:
        if os.path.islink(below) and _is_file(path):
            os.unlink(path)
            os.symlink(os.readlink(below), path)


class RenamesNoDirectories(_Reverts):
    """A directory that was renamed is there under its old name too."""

    __slots__ = ()

    def revert(self, below: bytes, path: bytes) -> None:
        if os.path.isdir(below) and not os.path.lexists(path):
            os.mkdir(path)


def parent_tree(snapshotter: NativeSnapshotter, name: str) -> str:
    """Return the directory of a committed snapshot."""
    (mount,) = snapshotter.view(f"{name} below", name, {}, no_checkpoint)
    snapshotter.remove(f"{name} below", no_checkpoint)
    return mount.source


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
