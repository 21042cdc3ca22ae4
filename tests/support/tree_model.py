"""What layers mean: a model, and trees observed in its terms.

It is written straight from the semantics, not from the applier: a dictionary of paths,
whiteouts first and resolved against the tree below, then the entries in their order.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snapcore.archive import Entry, EntryType
from snapcore.oci.whiteout import AUFS_LEFTOVERS
from support.layers import Layer, Path

KINDS: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}
_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)


class Refused(Exception):
    """The model says that no tree may come of this layer."""


@dataclass(eq=False, slots=True)
class Node:
    """An inode; two paths with the same one are hard links."""

    kind: EntryType
    mode: int
    ids: tuple[int, int]
    mtime: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


Tree: TypeAlias = dict[Path, Node]


def empty_tree() -> Tree:
    """Return the tree of no layers."""
    return {(): Node(EntryType.DIRECTORY, 0o755, (0, 0), 0)}


def model_apply(below: Tree, layer: Layer) -> Tree:
    """Return the tree that a layer makes of the one below it.

    Raises:
        Refused: the layer cannot be applied.
    """
    tree = dict(below)
    layer = [part for part in layer if AUFS_LEFTOVERS.isdisjoint(part[0].path)]
    for item, _ in layer:
        if item.path and item.path[-1].startswith(b".wh."):
            _model_delete(below, tree, item.path)
    # Nodes of the layers below are shared with `below`: attributes go to a copy.
    copies: dict[int, Node] = {}
    tree = {path: copies.setdefault(id(node), _copy(node)) for path, node in tree.items()}
    for item, data in layer:
        if not (item.path and item.path[-1].startswith(b".wh.")):
            _model_entry(tree, item, data)
    return tree


def _copy(node: Node) -> Node:
    return Node(
        node.kind, node.mode, node.ids, node.mtime, node.content, node.device, dict(node.xattrs)
    )


def _model_delete(below: Tree, tree: Tree, path: Path) -> None:
    try:
        parent = _model_resolve(below, path[:-1], make=False)
    except Refused:
        return
    name = path[-1].removeprefix(b".wh.")
    keep_top = path[-1] == b".wh..wh..opq"
    top = parent if keep_top else (*parent, name)
    for other in list(tree):
        if other[: len(top)] == top and not (keep_top and other == top):
            del tree[other]


def _model_resolve(tree: Tree, raw: Path, *, make: bool) -> Path:
    here: Path = ()
    todo = list(reversed(raw))
    links = 0
    while todo:
        name = todo.pop()
        if name == b"..":
            here = here[:-1]
            continue
        child = (*here, name)
        node = tree.get(child)
        if node is None:
            if not make:
                raise Refused("missing")
            node = tree[child] = Node(EntryType.DIRECTORY, 0o755, (0, 0), 0)
        if node.kind is EntryType.DIRECTORY:
            here = child
        elif node.kind is EntryType.SYMLINK:
            links += 1
            if links > 40:
                raise Refused("loop")
            here = () if node.content.startswith(b"/") else here
            todo.extend(p for p in reversed(node.content.split(b"/")) if p not in (b"", b"."))
        else:
            raise Refused("not a directory")
    return here


def _model_entry(tree: Tree, item: Entry, data: bytes) -> None:
    xattrs = dict(item.xattrs)
    node = Node(
        item.type,
        item.mode,
        (item.uid, item.gid),
        item.mtime,
        item.link if item.type is EntryType.SYMLINK else data,
        (item.major, item.minor) if item.type in _DEVICES else (0, 0),
        xattrs,
    )
    if not item.path:
        if item.type is not EntryType.DIRECTORY:
            raise Refused("root")
        tree[()] = node
        return
    path = (*_model_resolve(tree, item.path[:-1], make=True), item.path[-1])
    if item.type is EntryType.HARDLINK:
        source = (*_model_resolve(tree, item.link_path[:-1], make=False), item.link_path[-1])
        if source not in tree or tree[source].kind is EntryType.DIRECTORY:
            raise Refused("bad hard link")
        if source == path:
            return
        if source[: len(path)] == path:
            raise Refused("replaces its target's directory")
        node = tree[source]
    old = tree.get(path)
    if not (old and old.kind is EntryType.DIRECTORY and node.kind is EntryType.DIRECTORY):
        for other in list(tree):
            if other[: len(path)] == path:
                del tree[other]
    tree[path] = node


def describe(tree: Tree) -> dict[Path, tuple[object, ...]]:
    """Return a model's tree as plain values, in the shape of `observe`."""
    first: dict[int, Path] = {}
    return {
        path: (
            node.kind,
            0o777 if node.kind is EntryType.SYMLINK else node.mode,
            node.ids,
            node.mtime,
            node.content,
            node.device,
            sorted(node.xattrs.items()),
            first.setdefault(id(node), path),
        )
        for path, node in sorted(tree.items(), key=lambda item: item[0])
    }


def sketch(tree: Mapping[Path, tuple[object, ...]]) -> dict[str, str]:
    """Return a tree as short words, for tables."""
    words = {}
    for path, (kind, mode, _, _, content, *_) in tree.items():
        assert isinstance(content, bytes)
        assert isinstance(mode, int)
        word = {
            EntryType.FILE: f"file {content.decode()}",
            EntryType.SYMLINK: f"link {content.decode()}",
            EntryType.DIRECTORY: "dir" if mode == 0o755 else f"dir {mode:o}",
            EntryType.FIFO: "fifo",
            EntryType.CHARACTER: "char",
        }
        assert isinstance(kind, EntryType)
        words[os.fsdecode(b"/".join(path))] = word[kind]
    return words


def observe(root: str) -> dict[Path, tuple[object, ...]]:
    """Return a real tree as plain values: all that the canonical digest covers."""
    found: dict[Path, os.stat_result] = {}
    pending: list[Path] = [()]
    while pending:
        path = pending.pop()
        place = os.path.join(os.fsencode(root), *path)
        found[path] = os.lstat(place)
        if stat.S_ISDIR(found[path].st_mode):
            pending.extend((*path, name) for name in os.listdir(place))
    first: dict[tuple[int, int], Path] = {}
    return {
        path: _observed(os.path.join(os.fsencode(root), *path), found[path], path, first)
        for path in sorted(found)
    }


def _observed(
    place: bytes, status: os.stat_result, path: Path, first: dict[tuple[int, int], Path]
) -> tuple[object, ...]:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    content = b""
    if kind is EntryType.FILE:
        with open(place, "rb") as opened:
            content = opened.read()
    elif kind is EntryType.SYMLINK:
        content = os.readlink(place)
    names = map(os.fsencode, os.listxattr(place, follow_symlinks=False))
    return (
        kind,
        stat.S_IMODE(status.st_mode),
        (status.st_uid, status.st_gid),
        status.st_mtime_ns,
        content,
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in _DEVICES else (0, 0),
        sorted(
            (name, os.getxattr(place, name, follow_symlinks=False))
            for name in names
            if not name.startswith(b"trusted.")
        ),
        path
        if kind is EntryType.DIRECTORY
        else first.setdefault((status.st_dev, status.st_ino), path),
    )
