"""Layers for tests: entries in memory, a model of what they mean, and places to apply them to.

The model is written straight from the semantics, not from the applier: a dictionary of paths,
whiteouts first and resolved against the tree below, then the entries in their order.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    Entry,
    EntryType,
    InOrder,
    Postponed,
    WhiteoutsFirst,
    apply_apart,
    apply_entries,
    collect,
    settle,
)
from snapcore.linux import (
    MountAttr,
    fsconfig_create,
    fsconfig_string,
    fsmount,
    fsopen,
)
from snapcore.oci import WhiteoutStyle
from snapcore.oci.whiteout import AUFS_LEFTOVERS

Path: TypeAlias = tuple[bytes, ...]
Layer: TypeAlias = Sequence[tuple[Entry, bytes]]
KEEP: Final = ApplyPolicy()
_KINDS: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}
_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)


def split(name: str | bytes) -> Path:
    """Return the components of a path."""
    return tuple(part for part in os.fsencode(name).split(b"/") if part)


def entry(
    name: str | bytes,
    kind: EntryType = EntryType.FILE,
    data: bytes = b"",
    *,
    mode: int = 0o644,
    ids: tuple[int, int] = (0, 0),
    mtime: int = 0,
    link: str | bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[bytes, bytes] | None = None,
) -> tuple[Entry, bytes]:
    """Return one entry and its payload."""
    raw = os.fsencode(link)
    return (
        Entry(
            path=split(name),
            type=kind,
            mode=mode,
            uid=ids[0],
            gid=ids[1],
            mtime=mtime,
            size=len(data),
            link=raw,
            link_path=split(raw) if kind is EntryType.HARDLINK else (),
            major=device[0],
            minor=device[1],
            xattrs=tuple((xattrs or {}).items()),
            offset=0,
        ),
        data,
    )


def file(name: str | bytes, data: bytes = b"", *, mode: int = 0o644) -> tuple[Entry, bytes]:
    """Return a regular file."""
    return entry(name, EntryType.FILE, data, mode=mode)


def folder(name: str | bytes, *, mode: int = 0o755, mtime: int = 0) -> tuple[Entry, bytes]:
    """Return a directory."""
    return entry(name, EntryType.DIRECTORY, mode=mode, mtime=mtime)


def symlink(name: str | bytes, target: str | bytes) -> tuple[Entry, bytes]:
    """Return a symbolic link."""
    return entry(name, EntryType.SYMLINK, mode=0o777, link=target)


def hardlink(name: str | bytes, target: str | bytes) -> tuple[Entry, bytes]:
    """Return a hard link, with attributes that must not count."""
    return entry(name, EntryType.HARDLINK, mode=0o777, ids=(77, 77), mtime=77, link=target)


def whiteout(name: str) -> tuple[Entry, bytes]:
    """Return the whiteout of a path."""
    parent, slash, base = name.rpartition("/")
    return file(f"{parent}{slash}.wh.{base}")


def opaque(name: str = "") -> tuple[Entry, bytes]:
    """Return the opaque marker of a directory."""
    return file(f"{name}/.wh..wh..opq")


class MemorySource:
    """A layer in memory, as the applier reads it."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._data = b""

    def __iter__(self) -> Iterator[Entry]:
        for item, data in self._layer:
            self._data = data
            yield item

    def copy_payload(self, descriptor: int, /) -> None:
        os.write(descriptor, self._data)


class LocalSteps:
    """Does at once what a worker would ask its parent for."""

    def __init__(self) -> None:
        self.marked = 0

    def mark_opaque(self, directory: int) -> None:
        os.setxattr(directory, "trusted.overlay.opaque", b"y")
        self.marked += 1

    def progress(self, read: int) -> None:
        pass


# --- the model --------------------------------------------------------------------------------


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
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
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


# --- places to apply layers to ------------------------------------------------------------------


class Native:
    """Layers applied to one directory, in place; done anew where whiteouts must go first."""

    def __init__(self, top: str, *, whiteouts_first: bool = False) -> None:
        self._root = os.path.join(top, "native")
        self._always = whiteouts_first
        self._done: list[tuple[Layer, bool]] = []
        self.second_runs = 0
        os.mkdir(self._root)

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would."""
        if not self._always:
            try:
                return self._apply(layer, False, policy)
            except WhiteoutsFirst:
                self.second_runs += 1
                self._rebuild()
        return self._apply(layer, True, policy)

    @contextmanager
    def mounted(self) -> Iterator[str]:
        """Yield the tree."""
        yield self._root

    def _apply(self, layer: Layer, first: bool, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        with opened(self._root) as directory:
            base = not self._done
            skipped = apply_entries(
                MemorySource(layer),
                Destination(directory, None, WhiteoutStyle.APPLY, base),
                policy,
                LocalSteps(),
                collect(MemorySource(layer)) if first else None,
            )
        self._done.append((layer, first))
        return skipped

    def _rebuild(self) -> None:
        shutil.rmtree(self._root)
        os.mkdir(self._root)
        done, self._done = self._done, []
        for layer, first in done:
            self._apply(layer, first)


class Overlay:
    """Layers applied to upper directories, which the kernel puts together."""

    def __init__(self, top: str, *, whiteouts_first: bool = False) -> None:
        self._top = top
        self._always = whiteouts_first
        self._count = 0
        self.uppers: list[str] = []
        self.second_runs = 0

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would."""
        if not self._always:
            try:
                return self._apply(layer, False, policy)
            except WhiteoutsFirst:
                self.second_runs += 1
        return self._apply(layer, True, policy)

    @contextmanager
    def mounted(self) -> Iterator[str]:
        """Yield the merged tree."""
        with self._lower() as lower:
            yield f"/proc/self/fd/{lower}/." if lower is not None else self._top

    def _apply(self, layer: Layer, first: bool, policy: ApplyPolicy) -> Mapping[str, int]:
        upper = self._new_upper()
        with opened(upper) as directory, self._lower() as lower:
            skipped = apply_entries(
                MemorySource(layer),
                Destination(directory, lower, WhiteoutStyle.OVERLAY, self._count == 1),
                policy,
                LocalSteps(),
                collect(MemorySource(layer)) if first else None,
            )
        self._put_on_top(upper)
        return skipped

    def _new_upper(self) -> str:
        upper = os.path.join(self._top, f"upper{self._count}")
        self._count += 1
        os.mkdir(upper)
        return upper

    def _put_on_top(self, upper: str) -> None:
        # The kernel ignores the mark on a root; what is below is left out of the mount instead.
        if "trusted.overlay.opaque" in os.listxattr(upper):
            self.uppers.clear()
        self.uppers.append(upper)

    @contextmanager
    def _lower(self) -> Iterator[int | None]:
        if not self.uppers:
            yield None
        elif len(self.uppers) == 1:
            with opened(self.uppers[0]) as directory:
                yield directory
        else:
            descriptor = detached_overlay(list(reversed(self.uppers)))
            try:
                yield descriptor
            finally:
                os.close(descriptor)


class Apart(Overlay):
    """As Overlay, but each layer above the base is applied apart and settled, where it can be.

    Attributes:
        settled: how many were.
        redone: why the others were done over their parents, in the end.
    """

    def __init__(self, top: str) -> None:
        super().__init__(top)
        self.settled = 0
        self.redone: list[str] = []

    def apply(self, layer: Layer, policy: ApplyPolicy = KEEP) -> Mapping[str, int]:
        """Apply one more layer, as the unpacker would with workers at the same time."""
        if not self.uppers:
            return super().apply(layer, policy)
        try:
            skipped = self._apply_apart(layer, policy)
        except InOrder as signal:
            self.redone.append(str(signal))
            return super().apply(layer, policy)
        self.settled += 1
        return skipped

    def _apply_apart(self, layer: Layer, policy: ApplyPolicy) -> Mapping[str, int]:
        upper = self._new_upper()
        with opened(upper) as directory:
            bare = Destination(directory, None, WhiteoutStyle.OVERLAY, base=False)
            skipped, postponed = apply_apart(MemorySource(layer), bare, policy, LocalSteps())
        if not postponed.empty:
            again = Postponed.decode(postponed.encode())
            assert again == postponed
            with opened(upper) as directory, self._lower() as lower:
                whole = Destination(directory, lower, WhiteoutStyle.OVERLAY, base=False)
                settle(again, whole, policy, LocalSteps())
        self._put_on_top(upper)
        return skipped


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def detached_overlay(lowers: Sequence[str]) -> int:
    """Return the open root of an overlay of these directories, the nearest first."""
    context = fsopen("overlay")
    try:
        for lower in lowers:
            fsconfig_string(context, "lowerdir+", lower)
        for key, value in (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")):
            fsconfig_string(context, key, value)
        fsconfig_create(context)
        mounted = fsmount(context, MountAttr.RDONLY)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mounted)
    finally:
        os.close(mounted)
