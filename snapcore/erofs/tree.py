"""What can be written: one layer's own tree, or several layers as they show together."""

from __future__ import annotations

import stat
from typing import Final, TypeAlias

from snapcore.archive.virtual import (
    WHITEOUT,
    Attributes,
    Directory,
    Leaf,
    MergedDirectory,
)
from snapcore.erofs.types import Place
from snapcore.oci.whiteout import WhiteoutStyle

Tree: TypeAlias = Directory[Place] | MergedDirectory[Place]
Child: TypeAlias = tuple[bytes, Tree | Leaf[Place]]

_WHITEOUT: Final[Leaf[Place]] = Leaf(stat.S_IFCHR, 0, 0, 0)


def children(tree: Tree) -> list[Child]:
    """Return what a directory has, sorted by name; a whiteout as overlayfs has it.

    Not kept by who asks: all directories together are many.
    """
    found: list[Child]
    if isinstance(tree, MergedDirectory):
        found = list(tree.items())
    else:
        found = [
            (name, _WHITEOUT if node is WHITEOUT else node) for name, node in tree.children.items()
        ]
    found.sort(key=_name)
    return found


def attributes_of(tree: Tree, style: WhiteoutStyle) -> Attributes:
    """Return the attributes of a directory, the mark of an opaque one among them."""
    found = tree.attributes
    if isinstance(tree, MergedDirectory) or not tree.opaque:
        return found
    xattrs = (*found.xattrs, (style.opaque_xattr.encode(), b"y"))
    return Attributes(found.mode, found.uid, found.gid, found.mtime, xattrs)


def count_links(root: MergedDirectory[Place]) -> dict[Leaf[Place], int]:
    """Return how many names are left of each leaf that had several in its layer."""
    counts: dict[Leaf[Place], int] = {}
    pending = [root]
    while pending:
        for _, node in pending.pop().items():  # noqa: PERF102 - no dict
            if isinstance(node, MergedDirectory):
                pending.append(node)
            elif node.links > 1:
                counts[node] = counts.get(node, 0) + 1
    return counts


def _name(child: Child) -> bytes:
    return child[0]
