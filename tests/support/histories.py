"""Histories of images: a tree, edits of it, and the tree that is meant after each layer.

The edits change the tree itself, as a program in a container would; nothing here knows how a
layer is written or applied. So the trees say what layers made of them must come to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from snapcore.archive import EntryType
from support.features import Feature, Features
from support.layers import Path
from support.tree_model import Node, Tree, empty_tree

SECOND: Final = 1_000_000_000
_ACL: Final = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff")
_CAPABILITY: Final = bytes.fromhex("0100000200040000000000000000000000000000")
_PLAIN: Final = tuple(b"bin etc lib usr a b c d".split())
_ODD: Final = (
    b"n" * 120, b"long-" * 50, b"\xff\xfe", b"two words", b"new\nline", b"a=b", "ü".encode(),
    b"back\\slash", b".hidden", b"..."
)  # fmt: skip
_SIZES: Final = (0, 1, 5, 511, 512, 513, 3000)
_DEPTH: Final = 4
_BASE_EDITS: Final = 14


@dataclass(frozen=True, slots=True)
class History:
    """What becomes of an image, layer by layer.

    Attributes:
        trees: the empty one, then the tree after each layer; unchanged inodes stay the same nodes.
        edits: what was done for each layer, in words.
    """

    trees: tuple[Tree, ...]
    edits: tuple[tuple[str, ...], ...]


def make_history(rng: random.Random, features: Features) -> History:
    """Make up a history with these features."""
    editor = Editor(rng, features)
    trees, edits = [dict(editor.tree)], []
    for number in range(rng.choice((1, 2, 2, 3, 3, 4))):
        edits.append(editor.edit(base=number == 0))
        trees.append(dict(editor.tree))
    return History(tuple(trees), tuple(edits))


class Editor:
    """Edits one tree at random.

    Attributes:
        tree: as it is now.
    """

    def __init__(self, rng: random.Random, features: Features) -> None:
        """Begin with the empty tree; only edits that fit the features are made."""
        self.tree: Tree = empty_tree()
        self._rng = rng
        self._features = features
        self._names = _PLAIN + (_ODD if Feature.NAMES in features else ())
        optional: dict[Feature, Edit] = {
            Feature.REMOVED: self._remove,
            Feature.REPLACED: self._replace,
            Feature.RECREATED: self._recreate,
            Feature.EMPTIED: self._empty,
            Feature.RENAMED: self._rename,
            Feature.LINKED: self._link,
            Feature.ATTRIBUTES: self._change_attributes,
            Feature.XATTRS: self._change_xattrs,
            Feature.ROOT: self._change_root,
        }
        chosen = [edit for feature, edit in optional.items() if feature in features]
        self._edits: Sequence[Edit] = [self._add, self._change, *chosen]

    def edit(self, *, base: bool) -> tuple[str, ...]:
        """Make the edits of one layer, now and then none; return what was done."""
        if base:
            done = [self._add() for _ in range(_BASE_EDITS)]
            count = 2 if len(self._edits) > 2 else 0
        else:
            done, count = [], self._rng.choice((0, 1, 2, 4, 8))
        done += [self._rng.choice(self._edits)() for _ in range(count)]
        return tuple(word for word in done if word)

    def _add(self) -> str:
        path = self._free()
        self.tree[path] = self._node(self._rng.random() < 0.4)
        return f"add {path!r}"

    def _change(self) -> str:
        """Write a file, by all its names."""
        path = self._some(lambda node: node.kind is EntryType.FILE)
        if path is None:
            return ""
        old = self.tree[path]
        self._put_for(old, replace(old, content=self._content(), mtime=self._time()))
        return f"change {path!r}"

    def _remove(self) -> str:
        path = self._some(lambda _: True)
        if path is None:
            return ""
        self._drop(path)
        return f"remove {path!r}"

    def _replace(self) -> str:
        path = self._some(lambda _: True)
        if path is None:
            return ""
        old = self.tree[path].kind
        self._drop(path)
        while (new := self._node(self._rng.random() < 0.5)).kind is old:
            pass
        self.tree[path] = new
        if new.kind is EntryType.DIRECTORY:
            self._fill(path)
        return f"replace {path!r}: {old.value} by {new.kind.value}"

    def _recreate(self) -> str:
        path = self._some(lambda node: node.kind is EntryType.DIRECTORY)
        if path is None:
            return ""
        self._drop(path)
        self.tree[path] = self._directory()
        self._fill(path)
        return f"recreate {path!r}"

    def _empty(self) -> str:
        path = self._some(lambda node: node.kind is EntryType.DIRECTORY)
        if path is None:
            return ""
        node = self.tree[path]
        self._drop(path)
        self.tree[path] = node
        return f"empty {path!r}"

    def _rename(self) -> str:
        path = self._some(lambda _: True)
        if path is None:
            return ""
        new = self._free()
        if new[: len(path)] == path:
            return ""
        moved = {old: self.tree[old] for old in self._below(path)}
        self._drop(path)
        for old, node in moved.items():
            self.tree[new + old[len(path) :]] = node
        return f"rename {path!r} to {new!r}"

    def _link(self) -> str:
        path = self._some(lambda node: node.kind is not EntryType.DIRECTORY)
        if path is None:
            return ""
        new = self._free()
        self.tree[new] = self.tree[path]
        return f"link {new!r} to {path!r}"

    def _change_attributes(self) -> str:
        path = self._some(lambda node: node.kind is not EntryType.SYMLINK)
        if path is None:
            return ""
        old, new = self.tree[path], self._node(self.tree[path].kind is EntryType.DIRECTORY)
        mode = self._rng.choice((old.mode, 0o700, 0o4711, 0o1777, 0o000))
        self._put_for(old, replace(old, mode=mode, ids=new.ids, mtime=self._time()))
        return f"attributes of {path!r}"

    def _change_xattrs(self) -> str:
        path = self._some(lambda node: node.kind in (EntryType.FILE, EntryType.DIRECTORY))
        if path is None:
            return ""
        old = self.tree[path]
        self._put_for(old, replace(old, xattrs=self._xattrs(old.kind)))
        return f"xattrs of {path!r}"

    def _change_root(self) -> str:
        mode = self._rng.choice((0o755, 0o700, 0o1777))
        self.tree[()] = replace(self.tree[()], mode=mode, mtime=self._time())
        return "attributes of the root"

    def _fill(self, path: Path) -> None:
        for name in self._rng.sample(self._names, self._rng.randint(0, 2)):
            self.tree[(*path, name)] = self._node(directory=False)

    def _put_for(self, old: Node, new: Node) -> None:
        for path, node in list(self.tree.items()):
            if node is old:
                self.tree[path] = new

    def _drop(self, path: Path) -> None:
        for other in self._below(path):
            del self.tree[other]

    def _below(self, path: Path) -> list[Path]:
        return [other for other in self.tree if other[: len(path)] == path]

    def _some(self, fits: Callable[[Node], bool]) -> Path | None:
        found = sorted(path for path, node in self.tree.items() if path and fits(node))
        return self._rng.choice(found) if found else None

    def _free(self) -> Path:
        """Return a path that nothing has, in a directory that is there."""
        parents = sorted(
            path
            for path, node in self.tree.items()
            if node.kind is EntryType.DIRECTORY and len(path) < _DEPTH
        )
        while True:
            path = (*self._rng.choice(parents), self._rng.choice(self._names))
            if path not in self.tree:
                return path
            # Few names on purpose, so that they meet; a full tree needs one more.
            if self._rng.random() < 0.1:
                return (*path[:-1], b"%s%d" % (path[-1][:200], self._rng.getrandbits(30)))

    def _node(self, directory: bool) -> Node:
        if directory:
            return self._directory()
        kinds = [EntryType.FILE] * 4 + [EntryType.SYMLINK]
        if Feature.SPECIAL in self._features:
            kinds += [EntryType.FIFO, EntryType.CHARACTER, EntryType.BLOCK]
        kind = self._rng.choice(kinds)
        node = Node(kind, self._rng.choice((0o644, 0o600, 0o755)), self._ids(), self._time())
        if kind is EntryType.FILE:
            return replace(node, content=self._content(), xattrs=self._xattrs(kind))
        if kind is EntryType.SYMLINK:
            return replace(node, mode=0o777, content=self._target())
        return node if kind is EntryType.FIFO else replace(node, device=(1, 7))

    def _directory(self) -> Node:
        # What a directory without an entry of its own is like: see `tree_model`.
        if Feature.IMPLIED in self._features and self._rng.random() < 0.6:
            return Node(EntryType.DIRECTORY, 0o755, (0, 0), 0)
        kind = EntryType.DIRECTORY
        mode = self._rng.choice((0o755, 0o700, 0o2775, 0o1777))
        return Node(kind, mode, self._ids(), self._time(), xattrs=self._xattrs(kind))

    def _target(self) -> bytes:
        """Return where a symlink points: mostly to a directory, so that paths can go through."""
        place = self._some(lambda node: node.kind is EntryType.DIRECTORY)
        if place is None or self._rng.random() < 0.2:
            return self._rng.choice((b"nowhere", b"../..", b"/", b"."))
        return b"/" + b"/".join(place)

    def _content(self) -> bytes:
        return self._rng.randbytes(self._rng.choice(_SIZES))

    def _ids(self) -> tuple[int, int]:
        if Feature.IDS in self._features and self._rng.random() < 0.4:
            return self._rng.choice(((2_097_151, 2_097_152), (4_000_000_000, 70_000), (0, 2**31)))
        return self._rng.choice(((0, 0), (1000, 100)))

    def _time(self) -> int:
        seconds = self._rng.randrange(1_000_000_000, 1_700_000_000) * SECOND
        if Feature.TIMES not in self._features:
            return seconds
        odd = (seconds + self._rng.randrange(SECOND), -1_500_000_001, -5 * SECOND, 0, 1)
        return self._rng.choice((seconds, *odd))

    def _xattrs(self, kind: EntryType) -> dict[bytes, bytes]:
        if Feature.XATTRS not in self._features or self._rng.random() < 0.5:
            return {}
        more = (
            (b"system.posix_acl_default", _ACL)
            if kind is EntryType.DIRECTORY
            else (b"security.capability", _CAPABILITY)
        )
        choices = ((b"user.one", b"1"), (b"user.two", b""), (b"user.raw", b"\0\n=\xff"), more)
        return dict(self._rng.sample(choices, self._rng.randint(1, 3)))


Edit: TypeAlias = Callable[[], str]
