"""Described trees for tests: stacks of layers applied to them, and what they show."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from snapcore.archive import ApplyPolicy, EntryType
from snapcore.archive.virtual import (
    WHITEOUT,
    Described,
    LayerDirectory,
    Leaf,
    MergedDirectory,
    MergedView,
    describe,
)
from support.layers import Layer, Path
from support.tree_model import KINDS

_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)


class DescribedStack:
    """Layers applied to descriptions; the bytes of a file are its place."""

    def __init__(self) -> None:
        self.layers: list[LayerDirectory[bytes]] = []

    def apply(self, layer: Layer, policy: ApplyPolicy | None = None) -> Described[bytes]:
        """Apply one more layer."""
        described = describe(list(layer), self.view(), policy)
        self.layers.insert(0, described.root)
        return described

    def view(self) -> MergedView[bytes]:
        """Return what all layers show."""
        return MergedView(self.layers)


def observe_view(view: MergedView[bytes], *, sized: bool = True) -> dict[Path, tuple[object, ...]]:
    """Return a described tree as plain values, in the shape of `tree_model.observe`.

    Args:
        view: the tree.
        sized: whether every file's bytes are known; they are counted then.
    """
    found = sorted(view.walk(), key=lambda item: item[0])
    first: dict[Leaf[bytes], Path] = {}
    return {
        path: _directory(path, node)
        if isinstance(node, MergedDirectory)
        else _leaf(node, first.setdefault(node, path), sized)
        for path, node in found
    }


def _directory(path: Path, node: MergedDirectory[bytes]) -> tuple[object, ...]:
    found = node.attributes
    ids = (found.uid, found.gid)
    kind = EntryType.DIRECTORY
    return (kind, found.mode, ids, found.mtime, b"", (0, 0), sorted(found.xattrs), path)


def _leaf(node: Leaf[bytes], first: Path, sized: bool) -> tuple[object, ...]:
    kind = KINDS[stat.S_IFMT(node.mode)]
    assert not sized or node.size == len(node.place or node.target)
    return (
        kind,
        stat.S_IMODE(node.mode),
        (node.uid, node.gid),
        node.mtime,
        node.target if kind is EntryType.SYMLINK else node.place or b"",
        (os.major(node.device), os.minor(node.device)) if kind in _DEVICES else (0, 0),
        sorted(node.xattrs),
        first,
    )


def marks(root: LayerDirectory[object]) -> tuple[Sequence[Path], Sequence[Path], Sequence[Path]]:
    """Return the paths of a layer's own tree: all, whiteouts, opaque directories; sorted."""
    all_, whiteouts, opaques = [], [], []
    pending: list[tuple[Path, LayerDirectory[object]]] = [((), root)]
    while pending:
        path, directory = pending.pop()
        all_.append(path)
        if directory.opaque:
            opaques.append(path)
        for name in directory.names():
            found = directory.lookup(name)
            assert found is not None
            if found is WHITEOUT:
                whiteouts.append((*path, name))
            if found is WHITEOUT or isinstance(found, Leaf):
                all_.append((*path, name))
            else:
                pending.append(((*path, name), found))
    return sorted(all_), sorted(whiteouts), sorted(opaques)
