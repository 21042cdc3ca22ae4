"""The merged tree that a described layer is applied to: `archive.tree` without files.

What is changed is the layer's own tree; each of its directories knows what shines through it
from below. Nothing of the layers below is ever changed.
"""

from __future__ import annotations

import stat
from typing import Final, Generic, Literal

from snapcore.archive.failures import Blocked, Missing, Path, shown
from snapcore.archive.metadata import AttributeWriter
from snapcore.archive.names import MAX_COMPONENT
from snapcore.archive.virtual.types import (
    WHITEOUT,
    Attributes,
    Directory,
    Leaf,
    NotLazy,
    P,
    Whiteout,
)
from snapcore.archive.virtual.view import MergedDirectory, MergedView
from snapcore.archive.walk import unobserved, walk

_IMPLIED_MODE: Final = 0o755


class Own(Directory[P]):
    """A directory of the layer's own tree while the layer is applied.

    Attributes:
        below: what shines through it; None for nothing.
    """

    __slots__ = ("below",)

    def __init__(
        self,
        attributes: Attributes,
        below: MergedDirectory[P] | None = None,
        *,
        opaque: bool = False,
    ) -> None:
        super().__init__(attributes, opaque=opaque)
        self.below = below


class Spot(Generic[P]):
    """A directory of the merged tree, looked at.

    Attributes:
        path: canonical path.
        own: the layer's own directory there, None if it has none.
        below: what shines through from below, None for nothing.
    """

    __slots__ = ("below", "own", "path")

    def __init__(self, path: Path, own: Own[P] | None, below: MergedDirectory[P] | None) -> None:
        self.path = path
        self.own = own
        self.below = below

    def close(self) -> None:
        """Do nothing: it is no file."""

    def find(self, name: bytes) -> Directory[P] | MergedDirectory[P] | Leaf[P] | None:
        """Return what the merged tree has under a name; None for nothing."""
        if self.own is not None:
            found = self.own.children.get(name)
            if found is not None:
                return None if found is WHITEOUT else found
        return None if self.below is None else self.below.lookup(name)


class DescribedTree(Generic[P]):
    """The tree, changed in place."""

    def __init__(self, view: MergedView[P], writer: AttributeWriter) -> None:
        """Begin with nothing of the layer over the tree of the layers below."""
        self._view: Final = view
        self._writer: Final = writer
        below = view.root
        self.implied: Final = Attributes(_IMPLIED_MODE, *writer.owner(0, 0), 0)
        self.root: Final[Own[P]] = Own(self._copied(below) if below else self.implied, below)

    # --- ways -------------------------------------------------------------------------------

    def parent(self, raw: Path) -> Own[P]:
        """Return the layer's own directory in which an entry goes; made if it is missing.

        Raises:
            Blocked: something on the way is not a directory.
        """
        here = self.root
        for name in raw:
            child = here.children.get(name)
            if not isinstance(child, Own):
                return self.enter(raw)[1]
            here = child
        return here

    def enter(self, raw: Path) -> tuple[Path, Own[P]]:
        """As `parent`, by the long way; return its canonical path as well.

        Raises:
            Blocked: something on the way is not a directory.
        """
        spot = walk(raw, self._spot, unobserved, self._make_step)
        assert spot.own is not None
        return spot.path, spot.own

    def see(self, raw: Path) -> Spot[P]:
        """Return a directory for looking, symlinks followed inside the root.

        Raises:
            Blocked: it does not exist, or leads through what is not a directory.
        """
        return walk(raw, self._spot, unobserved, self._see_step)

    def copied(self, path: Path) -> Own[P]:
        """Return the layer's own directory at a canonical path, copied up if it is only below.

        Raises:
            Blocked: it is not there.
        """
        spot = walk(path, self._spot, unobserved, self._copy_step)
        assert spot.own is not None
        return spot.own

    def _spot(self) -> Spot[P]:
        return Spot((), self.root, self.root.below)

    def _see_step(self, here: Spot[P], name: bytes, path: Path) -> Spot[P] | bytes:
        found = self._peek(here, name, path)
        if found is None:
            raise Missing(f"{name[:100]!r} on its way does not exist")
        return found

    def _plain_step(self, here: Spot[P], name: bytes, path: Path) -> Spot[P]:
        found = self._see_step(here, name, path)
        if isinstance(found, bytes):
            raise Blocked(f"{name[:100]!r} on its way is a symlink")
        return found

    def _copy_step(self, here: Spot[P], name: bytes, path: Path) -> Spot[P]:
        return self._own(here, name, self._plain_step(here, name, path))

    def _make_step(self, here: Spot[P], name: bytes, path: Path) -> Spot[P] | bytes:
        found = self._peek(here, name, path)
        if isinstance(found, bytes):
            return found
        if found is None:
            assert here.own is not None
            return Spot(path, self.make(here.own, name, self.implied), None)
        return self._own(here, name, found)

    def _own(self, here: Spot[P], name: bytes, found: Spot[P]) -> Spot[P]:
        """Copy a directory up, if it is only below."""
        if found.own is None:
            assert here.own is not None
            assert found.below is not None
            found.own = Own(self._copied(found.below), found.below)
            here.own.children[name] = found.own
        return found

    def _peek(self, here: Spot[P], name: bytes, path: Path) -> Spot[P] | bytes | None:
        """Look at one component: a directory, a link's target, None for nothing."""
        if len(name) > MAX_COMPONENT:
            raise Blocked("a symlink on its way names what no filesystem can hold")
        found = here.find(name)
        if found is None:
            return None
        if isinstance(found, Own):
            return Spot(path, found, found.below)
        if isinstance(found, MergedDirectory):
            return Spot(path, None, found)
        if isinstance(found, Leaf) and found.is_symlink:
            return found.target
        raise Blocked(f"{name[:100]!r} on its way is not a directory")

    def _copied(self, below: MergedDirectory[P]) -> Attributes:
        found = below.attributes
        owner = self._writer.owner(found.uid, found.gid)
        if owner == (found.uid, found.gid):
            return found
        return Attributes(found.mode, *owner, found.mtime, found.xattrs)

    # --- changing ---------------------------------------------------------------------------

    def make(self, parent: Own[P], name: bytes, attributes: Attributes) -> Own[P]:
        """Make a directory through which nothing shines, in place of what has its name."""
        hides = parent.below is not None and isinstance(parent.below.lookup(name), MergedDirectory)
        made: Own[P] = Own(attributes, opaque=hides)
        parent.children[name] = made
        return made

    def put_directory(self, parent: Own[P], name: bytes, attributes: Attributes) -> None:
        """Give the directory under a name new attributes; make it if there is none."""
        found = parent.children.get(name)
        if isinstance(found, Own):
            found.attributes = attributes
            return
        below = parent.below.lookup(name) if found is None and parent.below else None
        if isinstance(below, MergedDirectory):
            parent.children[name] = Own(attributes, below)
        else:
            self.make(parent, name, attributes)

    def empty(self, path: Path) -> None:
        """Remove all that a directory has, on behalf of an opaque marker.

        Raises:
            Blocked: it is not there.
        """
        directory = self.copied(path)
        directory.children.clear()
        if directory.below is not None:
            directory.below = None
            directory.opaque = True

    def erase(self, path: Path) -> None:
        """Remove a name, on behalf of a whiteout.

        Raises:
            Blocked: its directory is not there.
        """
        directory, name = self.copied(path[:-1]), path[-1]
        directory.children.pop(name, None)
        if directory.below is not None and directory.below.lookup(name) is not None:
            directory.children[name] = WHITEOUT

    # --- hard links -------------------------------------------------------------------------

    def copy_up(self, path: Path) -> Leaf[P]:
        """Make a leaf that is only below one of the layer, and so all of its visible names.

        Raises:
            NotLazy: nothing says where its bytes are.
        """
        found = self._view.find(path)
        assert isinstance(found, Leaf)
        if stat.S_ISREG(found.mode) and found.size and found.place is None:
            raise NotLazy(f"a hard link to {shown(path)}, which is in an unpacked layer")
        owner = self._writer.owner(found.uid, found.gid)
        leaf: Leaf[P] = Leaf(
            found.mode,
            *owner,
            found.mtime,
            found.xattrs,
            found.size,
            found.device,
            found.target,
            found.place,
        )
        for name in {path, *(self._view.names(found) if found.links > 1 else ())}:
            if name == path or self._shines_through(name):
                self.copied(name[:-1]).children[name[-1]] = leaf
        return leaf

    def _shines_through(self, path: Path) -> bool:
        """Tell whether a path of the tree below is still the one that the merged tree shows."""
        try:
            spot = walk(path[:-1], self._spot, unobserved, self._plain_step)
        except Blocked:
            return False
        hidden = spot.own is not None and path[-1] in spot.own.children
        return not hidden and spot.below is not None and spot.below.lookup(path[-1]) is not None


OwnNode = Directory[P] | Leaf[P] | Literal[Whiteout.WHITEOUT]


def count_links(root: Directory[P]) -> None:
    """Give each leaf of a finished tree the number of its names."""
    pending, leaves = [root], list[Leaf[P]]()
    while pending:
        for node in pending.pop().children.values():
            if isinstance(node, Directory):
                pending.append(node)
            elif node is not WHITEOUT:
                node.links = 0
                leaves.append(node)
    for leaf in leaves:
        leaf.links += 1
