"""The tree that layers show together, by the rules of overlayfs, without mounting anything.

The nearest layer that has a name decides: a whiteout hides it, what is no directory ends the
search, a directory is merged with those of the layers below until one is opaque or no directory
(kernel, Documentation/filesystems/overlayfs.rst, "Merged directories", "whiteouts and opaque
directories").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic

from snapcore.archive.failures import Path
from snapcore.archive.virtual.types import (
    WHITEOUT,
    Attributes,
    LayerDirectory,
    Leaf,
    P_co,
)


class MergedDirectory(Generic[P_co]):
    """A directory of the merged tree."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[LayerDirectory[P_co]]) -> None:
        """Merge the directories of one path, nearest first, down to the first opaque one."""
        self._parts: Final = tuple(parts)

    @property
    def attributes(self) -> Attributes:
        """Those of the nearest layer."""
        return self._parts[0].attributes

    def lookup(self, name: bytes) -> MergedDirectory[P_co] | Leaf[P_co] | None:
        """Return what the merged tree has under a name; None for nothing."""
        merged: list[LayerDirectory[P_co]] = []
        for part in self._parts:
            found = part.lookup(name)
            if found is None:
                continue
            if found is WHITEOUT:
                break
            if isinstance(found, Leaf):
                if not merged:
                    return found
                break
            merged.append(found)
            if found.opaque:
                break
        return MergedDirectory(merged) if merged else None

    def items(self) -> Iterator[tuple[bytes, MergedDirectory[P_co] | Leaf[P_co]]]:
        """Yield all names with what is under them, in any order."""
        names = {name for part in self._parts for name in part.names()}
        for name in names:
            found = self.lookup(name)
            if found is not None:
                yield name, found


class MergedView(Generic[P_co]):
    """The merged tree of some layers.

    Attributes:
        root: its root; None if there are no layers.
    """

    def __init__(self, layers: Sequence[LayerDirectory[P_co]]) -> None:
        """Merge layers by their root directories, the nearest first.

        An opaque root hides all layers below it. overlayfs itself ignores the mark there, and
        whoever mounts leaves those layers out.
        """
        shown: list[LayerDirectory[P_co]] = []
        for layer in layers:
            shown.append(layer)
            if layer.opaque:
                break
        self.root: Final = MergedDirectory(shown) if shown else None
        self._groups: dict[Leaf[P_co], list[Path]] | None = None

    def find(self, path: Path) -> MergedDirectory[P_co] | Leaf[P_co] | None:
        """Return what is at a canonical path; None for nothing."""
        here: MergedDirectory[P_co] | Leaf[P_co] | None = self.root
        for name in path:
            if not isinstance(here, MergedDirectory):
                return None
            here = here.lookup(name)
        return here

    def walk(self) -> Iterator[tuple[Path, MergedDirectory[P_co] | Leaf[P_co]]]:
        """Yield every path with what is there, parents before their children."""
        pending: list[tuple[Path, MergedDirectory[P_co]]] = []
        if self.root is not None:
            yield (), self.root
            pending.append(((), self.root))
        while pending:
            path, directory = pending.pop()
            for name, node in directory.items():
                yield (*path, name), node
                if isinstance(node, MergedDirectory):
                    pending.append(((*path, name), node))

    def names(self, leaf: Leaf[P_co]) -> Sequence[Path]:
        """Return the canonical paths of all names that a leaf still has in the merged tree.

        The first call for a leaf with several names walks the whole tree.
        """
        if self._groups is None:
            self._groups = {}
            for path, node in self.walk():
                if isinstance(node, Leaf) and node.links > 1:
                    self._groups.setdefault(node, []).append(path)
        return self._groups.get(leaf, ())
