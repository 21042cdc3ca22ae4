"""Moving what a layer put into a placeholder to where the symlink below leads.

A layer names `bin/tool`, and below it `bin` is a symlink to `usr/bin`: applied over its parents
the file would have gone to `usr/bin`. As long as nothing else of the layer stands in the way of
that, neither the order of its entries nor the time of moving matters.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from snapcore.archive.failures import Blocked, Path, shown
from snapcore.archive.handles import Directory, lookup
from snapcore.archive.looking import Looking, Way
from snapcore.archive.postponed import Link, Postponed
from snapcore.archive.remove import remove_name
from snapcore.archive.removed import Removed
from snapcore.archive.tree import MergedTree
from snapcore.archive.types import InOrder
from snapcore.archive.walk import MAX_LINKS


class Placed:
    """What was postponed, by the canonical paths that it turns out to have.

    Attributes:
        implied: placeholders.
        late: directories that got their entry after something was put into them.
        links: postponed hard links; `target` stays what the layer calls it.
        directories: those of the layers below that some way leads through.
        symlinks: those of the layers below that were followed.
    """

    def __init__(self, postponed: Postponed) -> None:
        """Start with the paths of the layer."""
        self.implied = set(postponed.implied)
        self.late = set(postponed.late)
        self.links = list(postponed.links)
        self.directories: Final[set[Path]] = set()
        self.symlinks: Final[set[Path]] = set()

    def follow(self, way: Way) -> None:
        """Note that something of the layer depends on a way through the layers below."""
        self.directories.update(way.directories)
        self.symlinks.update(way.links)

    def move(self, source: Path, target: Path) -> None:
        """Rename all that is below a placeholder, which goes."""

        def moved(path: Path) -> Path:
            if len(path) > len(source) and path[: len(source)] == source:
                return (*target, *path[len(source) :])
            return path

        self.implied = {moved(path) for path in self.implied if path != source}
        self.late = {moved(path) for path in self.late}
        self.links = [Link(moved(link.path), link.target) for link in self.links]


class Relocation:
    """Finds the placeholders that are symlinks below, and moves what is in them."""

    def __init__(self, tree: MergedTree, below: Looking, removed: Removed, placed: Placed) -> None:
        """Move in `tree`, and keep `placed` true."""
        self._tree: Final = tree
        self._below: Final = below
        self._removed: Final = removed
        self._placed: Final = placed
        self._links = 0
        self._done: set[Path] = set()

    def run(self) -> None:
        """Move everything, until each placeholder is a directory below, or nothing.

        Raises:
            InOrder: it is none of these, or something is in the way.
            OSError: as the calls that look and move.
        """
        while (path := self._next()) is not None:
            self._relocate(path)

    def _next(self) -> Path | None:
        for path in sorted(self._placed.implied - self._done, key=len):
            status = None if self._removed.hides(path) else self._below.status(path)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                if not stat.S_ISLNK(status.st_mode):
                    raise InOrder(f"{shown(path)} is below, and not a directory")
                return path
            self._done.add(path)
        return None

    def _relocate(self, path: Path) -> None:
        try:
            way = self._below.way(path)
        except Blocked as blocked:
            raise InOrder(f"{shown(path)} is a symlink below, but {blocked}") from blocked
        # More than any one path of the layer leads through, so never less strict than in order.
        self._links += len(way.links)
        if self._links > MAX_LINKS:
            raise InOrder(f"more than {MAX_LINKS} symlinks of the layers below are in use")
        if path[: len(way.path)] == way.path:
            raise InOrder(f"{shown(path)} is a symlink below that leads upwards")
        self._placed.follow(way)
        try:
            self._move(path, way.path)
            self._drop(path)
        except Blocked as blocked:
            raise InOrder(f"{shown(path)} cannot be moved: {blocked}") from blocked
        self._placed.move(path, way.path)

    def _move(self, source: Path, target: Path) -> None:
        pending = [(source, target)]
        while pending:
            old, new = pending.pop()
            here = self._tree.enter(old)
            try:
                there = self._tree.enter(new)
                try:
                    pending += self._move_names(here, there)
                finally:
                    there.close()
            finally:
                here.close()

    def _move_names(self, here: Directory, there: Directory) -> list[tuple[Path, Path]]:
        """Move all names of a directory; return the placeholders that are in both."""
        both = []
        for text in os.listdir(here.upper):
            name = os.fsencode(text)
            old, new = (*here.path, name), (*there.path, name)
            if lookup(there.upper, name) is None:
                self._rename(here, there, name, new)
            elif old in self._placed.implied and new in self._placed.implied:
                both.append((old, new))
            else:
                raise InOrder(f"{shown(new)} has two names in the layer")
        return both

    def _rename(self, here: Directory, there: Directory, name: bytes, new: Path) -> None:
        status = os.stat(name, dir_fd=here.upper, follow_symlinks=False)
        os.rename(name, name, src_dir_fd=here.upper, dst_dir_fd=there.upper)
        if stat.S_ISDIR(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            self._tree.deferred.set(new, status, status.st_mtime_ns, mode)

    def _drop(self, path: Path) -> None:
        parent = self._tree.enter(path[:-1])
        try:
            remove_name(parent.upper, path[-1])
        finally:
            parent.close()
