"""Settling a layer that was applied apart: what was postponed, once its parents are known.

The result is the one of applying the layer over its parents: its deletions to the tree M below,
then its entries in their order. The layer's own directory has all entries already, so what is
left is done around them, in this order:

1. Deletions are resolved in M as it is; from here on, M is what they leave of it.
2. What lies in placeholders that are symlinks in M moves to where these lead.
3. Everything that could make the order of the layer's entries matter is looked for. No entry may
   stand where a symlink of M was followed, or where a postponed link or its target is.
4. Deletions are written down: whiteouts where the layer has nothing, opaque marks on what it has.
5. Placeholders that are directories in M get their attributes.
6. Hard links to files of M are made; all names of such a file come along.

Step 3 makes 4 to 6 exact: the layer never had anything at those places at any time, since apart
nothing is ever taken away. Where it finds something, InOrder is raised, and nothing is guessed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Mapping
from typing import Final

from snapcore.archive.failures import Blocked, Path, layer_error, shown
from snapcore.archive.handles import Directory, lookup
from snapcore.archive.journal import Untracked
from snapcore.archive.links import HardLinks
from snapcore.archive.looking import Looking
from snapcore.archive.metadata import AttributeWriter
from snapcore.archive.postponed import Postponed
from snapcore.archive.relocate import Placed, Relocation
from snapcore.archive.removed import Removed
from snapcore.archive.skipped import Skipped
from snapcore.archive.tree import MergedTree
from snapcore.archive.types import ApplyPolicy, Destination, InOrder, Steps
from snapcore.errors import FailedPrecondition


def settle(
    postponed: Postponed, destination: Destination, policy: ApplyPolicy, steps: Steps
) -> Mapping[str, int]:
    """Do what was postponed when a layer was applied apart from its parents.

    Args:
        postponed: what to do; nothing is done if it is `empty`.
        destination: the layer's upper directory, and as `lower` the merged tree of its parents;
            spoilt unless this returns.
        policy: as it was when the layer was applied.
        steps: what the parent process does for us.

    Returns:
        What was left out on purpose, by reason.

    Raises:
        InOrder: the layer must be applied over its parents instead, in a fresh place.
        FailedPrecondition: the destination has nothing below.
        SnapcoreError: as `apply_entries`.
    """
    if destination.lower is None:
        raise FailedPrecondition("a layer is settled over its parents, but there is nothing below")
    if postponed.empty:
        return {}
    return _Settling(postponed, destination, destination.lower, policy, steps).run()


class _Settling:
    def __init__(
        self,
        postponed: Postponed,
        destination: Destination,
        lower: int,
        policy: ApplyPolicy,
        steps: Steps,
    ) -> None:
        self._directory: Final = destination.directory
        self._lower: Final = lower
        self._skipped: Final = Skipped()
        writer = AttributeWriter(policy, self._skipped)
        self._tree: Final = MergedTree(destination, writer, Untracked(), steps)
        self._links: Final = HardLinks(self._tree, writer, lower)
        self._below: Final = Looking(lower)
        self._own: Final = Looking(destination.directory)
        self._removed: Final = Removed.of(self._below, postponed.deletions)
        self._placed: Final = Placed(postponed)
        self._raw_links: Final = postponed.links
        self._places: Final[dict[Path, Path]] = {}

    def run(self) -> Mapping[str, int]:
        path: Path = ()
        try:
            Relocation(self._tree, self._below, self._removed, self._placed).run()
            sources = self._check()
            for path in self._removed.emptied:
                self._empty(path)
            for path in self._removed.erased:
                self._erase(path)
            for path in sorted(self._placed.implied, key=len):
                self._adopt(path)
            for link, source in zip(self._placed.links, sources, strict=True):
                path = link.path
                self._link(path, source)
            path = ()
            self._tree.deferred.carry_out(self._directory)
        except Blocked as blocked:
            raise InOrder(f"{shown(path)}: {blocked}") from blocked
        except OSError as error:
            raise layer_error(error, path) from error
        return self._skipped.counts()

    # --- what must not be ---------------------------------------------------------------------

    def _check(self) -> list[Path]:
        """Check that the order of the layer's entries does not matter.

        Returns:
            The canonical path of each postponed link's target.

        Raises:
            InOrder: it may matter.
        """
        for path in self._placed.late:
            status = self._kept(path)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                raise InOrder(f"{shown(path)} is below, and was used before it had an entry")
        sources = self._link_sources()
        self._check_ways({link.path for link in self._placed.links})
        return sources

    def _kept(self, path: Path) -> os.stat_result | None:
        """Return what the deletions leave at a canonical path of the tree below."""
        return None if self._removed.hides(path) else self._below.status(path)

    def _link_sources(self) -> list[Path]:
        names = {link.path for link in self._placed.links}
        if len(names) < len(self._placed.links):
            raise InOrder("two hard links to files of the layers below have one name")
        made: dict[Path, Path] = {}
        sources = []
        for raw, link in zip(self._raw_links, self._placed.links, strict=True):
            if self._own.status(link.path) is not None:
                raise InOrder(f"hard link {shown(link.path)} is not all that the layer has there")
            # A target may itself be a link that was postponed earlier.
            source = made.get(link.target) or self._link_source(link.target, names)
            sources.append(source)
            made[raw.path] = link.path
        return sources

    def _link_source(self, target: Path, names: Container[Path]) -> Path:
        source = (*self._link_place(target[:-1]), target[-1])
        status = self._kept(source)
        if status is None or stat.S_ISDIR(status.st_mode):
            raise InOrder(f"hard link target {shown(target)} is no file below")
        if source in names or self._own.status(source) is not None:
            raise InOrder(f"hard link target {shown(target)} is in the layer as well")
        return source

    def _link_place(self, raw: Path) -> Path:
        if raw not in self._places:
            try:
                way = self._below.way(raw)
            except Blocked as blocked:
                raise InOrder(f"hard link target in {shown(raw)}: {blocked}") from blocked
            self._placed.follow(way)
            self._places[raw] = way.path
        return self._places[raw]

    def _check_ways(self, names: Container[Path]) -> None:
        for path in self._placed.directories | self._placed.symlinks:
            if path in names or self._removed.hides(path):
                raise InOrder(f"{shown(path)} is used and replaced in one layer")
            status = self._own.status(path)
            if status is None:
                continue
            if path in self._placed.symlinks or not stat.S_ISDIR(status.st_mode):
                raise InOrder(f"{shown(path)} is used and replaced in one layer")

    # --- what is done -------------------------------------------------------------------------

    def _empty(self, path: Path) -> None:
        try:
            directory = self._tree.enter(path)
        except Blocked:
            # The layer has something else there, or above it.
            return
        try:
            self._tree.seal(path, directory.upper)
        finally:
            directory.close()

    def _erase(self, path: Path) -> None:
        try:
            parent = self._tree.enter(path[:-1])
        except Blocked:
            return
        try:
            status = lookup(parent.upper, path[-1])
            if status is None:
                os.mknod(path[-1], stat.S_IFCHR, 0, dir_fd=parent.upper)
            elif stat.S_ISDIR(status.st_mode):
                self._hide_below(parent, path[-1])
        finally:
            parent.close()

    def _hide_below(self, parent: Directory, name: bytes) -> None:
        directory = self._tree.merge_directory(parent, name)
        if directory is None:
            return
        try:
            if directory.lower is not None:
                self._tree.seal(directory.path, directory.upper)
        finally:
            directory.close()

    def _adopt(self, path: Path) -> None:
        """Give a placeholder the attributes of the directory below it, if there is one."""
        lower = None if self._removed.hides(path) else self._below.open(path)
        if lower is None:
            return
        try:
            directory = self._tree.enter(path)
            try:
                self._tree.copy_attributes(path, lower, directory.upper)
            finally:
                directory.close()
        finally:
            os.close(lower)

    def _link(self, path: Path, source: Path) -> None:
        parent = self._tree.enter(path[:-1])
        try:
            seen = self._tree.see_plain(source[:-1])
            try:
                self._links.make(seen, source, parent, path[-1])
            finally:
                seen.close()
        finally:
            parent.close()
