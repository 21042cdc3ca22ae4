"""What a layer says of the change from one tree to the next: many ways to say the same.

What is said, what is deleted and how is chosen at random, within the features of the image; the
order of it all is chosen by `support.layer_parts`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from snapcore.archive import Entry, EntryType
from snapcore.oci.whiteout import AUFS_LEFTOVERS, OPAQUE_MARKER, WHITEOUT_PREFIX
from support.features import Feature, Features
from support.histories import SECOND
from support.layer_parts import Part, Stage, entry_of, in_order, link_of
from support.layers import Layer, Path, entry
from support.tree_model import Node, Tree

_MOST_AGAIN: Final = 12


@dataclass(slots=True)
class _Plan:
    """Which paths are said, and what of the layers below goes.

    Attributes:
        cleared: directories of which nothing below is left, whatever way that is said.
        opaque: those of them that get an opaque mark.
        erased: paths that are deleted by a whiteout before the entries are made.
        said: paths that get an entry.
    """

    cleared: set[Path] = field(default_factory=set)
    opaque: set[Path] = field(default_factory=set)
    erased: set[Path] = field(default_factory=set)
    said: set[Path] = field(default_factory=set)

    def is_cleared(self, path: Path) -> bool:
        return any(path[:end] in self.cleared for end in range(len(path)))

    def is_erased(self, path: Path) -> bool:
        return path in self.erased or self.is_cleared(path)


def lay(before: Tree, after: Tree, rng: random.Random, features: Features) -> Layer:
    """Return a layer that makes `after` of `before`."""
    return _Layering(before, after, rng, features).layer()


def default_directory(node: Node) -> bool:
    """Tell whether a directory is what one without an entry becomes."""
    attributes = (node.kind, node.mode, node.ids, node.mtime, node.xattrs)
    return attributes == (EntryType.DIRECTORY, 0o755, (0, 0), 0, {})


class _Layering:
    def __init__(self, before: Tree, after: Tree, rng: random.Random, features: Features) -> None:
        self._before, self._after = before, after
        self._rng, self._features = rng, features
        self._parts: list[Part] = []
        self._plan = _Plan()
        self._links: dict[Path, Path] = {}
        self._aliases: dict[Path, list[Path]] = {}

    def layer(self) -> Layer:
        self._clear()
        self._say()
        self._aliases = dict(self._find_aliases())
        for path in sorted(self._plan.said):
            self._add_entry(path)
        self._erase()
        if self._has(Feature.SPARE):
            self._erase_nothing()
        self._add_parents()
        if self._has(Feature.TWICE):
            self._add_overridden()
        parts = in_order(self._parts, self._links, self._takes_a_place, self._key)
        return self._with_leftovers([part.item for part in parts])

    def _has(self, feature: Feature, chance: float = 1.0) -> bool:
        return feature in self._features and self._rng.random() < chance

    # What is said.

    def _clear(self) -> None:
        """Choose directories of which the layer says all anew."""
        for path, node in sorted(self._after.items()):
            if not (self._is_directory(self._before, path) and node.kind is EntryType.DIRECTORY):
                continue
            if self._plan.is_cleared(path):
                continue
            below = [p for p in self._after if len(p) > len(path) and p[: len(path)] == path]
            anew = not any(self._after[p] is self._before.get(p) for p in below)
            if len(below) > _MOST_AGAIN or not self._has_any_below(path):
                continue
            if self._has(Feature.OPAQUE, 0.8 if anew else 0.15):
                self._plan.cleared.add(path)
                self._plan.opaque.add(path)
            elif path and self._has(Feature.RECREATED, 0.6 if anew else 0.05):
                self._plan.cleared.add(path)
                self._plan.erased.add(path)

    def _has_any_below(self, path: Path) -> bool:
        return any(len(p) > len(path) and p[: len(path)] == path for p in self._before)

    def _say(self) -> None:
        names: defaultdict[int, list[Path]] = defaultdict(list)
        for path, node in self._after.items():
            names[id(node)].append(path)
        for path, node in self._after.items():
            kept = self._before.get(path) is node and not self._plan.is_erased(path)
            alone = len(names[id(node)]) == 1
            if not kept or (path and alone and self._has(Feature.UNCHANGED, 0.2)):
                self._plan.said.add(path)
        for paths in names.values():
            self._plan_links(sorted(paths))
        for path in sorted(self._plan.said, key=lambda path: (-len(path), path)):
            if self._would_be_implied(path) and self._has(Feature.IMPLIED, 0.7):
                self._plan.said.discard(path)

    def _would_be_implied(self, path: Path) -> bool:
        """Tell whether a directory would be made without its entry, and as it is meant."""
        is_new = path not in self._before or self._plan.is_erased(path)
        is_needed = any(len(p) > len(path) and p[: len(path)] == path for p in self._plan.said)
        return is_new and is_needed and default_directory(self._after[path])

    def _plan_links(self, paths: list[Path]) -> None:
        """Choose for each name of an inode whether it is the file or a link, and to which."""
        said = [path for path in paths if path in self._plan.said]
        if len(paths) == 1 or not said or self._after[said[0]].kind is EntryType.DIRECTORY:
            return
        targets = [path for path in paths if path not in self._plan.said]
        if not targets:
            targets = [said.pop(0) if not self._has(Feature.SHUFFLED) else self._pop(said)]
        for path in said:
            self._links[path] = self._rng.choice(targets)
            if self._has(Feature.SHUFFLED, 0.5):
                targets.append(path)

    def _pop(self, paths: list[Path]) -> Path:
        return paths.pop(self._rng.randrange(len(paths)))

    def _add_entry(self, path: Path) -> None:
        node = self._after[path]
        written = self._written(path)
        if path in self._links:
            if self._has(Feature.STALE, 0.7):
                node = replace(node, mode=0o711, ids=(9, 9), mtime=9 * SECOND)
            item = link_of(written, self._written(self._links[path]), node)
        else:
            item = entry_of(written, node)
        self._parts.append(Part(path, item, Stage.COUNTS))

    def _add_parents(self) -> None:
        """Add entries of directories above, as most builders do."""
        for part in list(self._parts):
            for end in range(1, len(part.place) + (part.stage is Stage.WHITEOUT)):
                path = part.place[:end]
                node = self._after.get(path)
                if node is None or node.kind is not EntryType.DIRECTORY:
                    break
                if path in self._plan.said or self._has(Feature.IMPLIED, 0.7):
                    continue
                # One that is left to be implied on purpose stays so.
                if self._before.get(path) is node and not self._plan.is_erased(path):
                    self._plan.said.add(path)
                    self._add_entry(path)

    # What goes.

    def _erase(self) -> None:
        for path in sorted(self._before):
            gone = path not in self._after and not self._plan.is_cleared(path)
            if gone and self._is_directory(self._after, path[:-1]):
                self._plan.erased.add(path)
        for path in sorted(self._plan.erased):
            self._whiteout(path[:-1], WHITEOUT_PREFIX + path[-1])
        for path in sorted(self._plan.opaque):
            self._whiteout(path, OPAQUE_MARKER)

    def _erase_nothing(self) -> None:
        for path, node in sorted(self._before.items()):
            if not path or self._rng.random() > 0.3:
                continue
            new = self._after.get(path)
            both = node.kind is new.kind is EntryType.DIRECTORY if new is not None else False
            if new is None or (path in self._plan.said and not both):
                # Deleted already, by a directory above it or by what takes its place.
                self._plan.erased.add(path)
                self._whiteout(path[:-1], WHITEOUT_PREFIX + path[-1])
            elif both and (*path, b"none") not in self._before:
                self._whiteout(path, WHITEOUT_PREFIX + b"none")
        for path in sorted(self._plan.said):
            if path not in self._before and self._after[path].kind is EntryType.DIRECTORY:
                mark = self._has(Feature.OPAQUE, 0.5)
                self._whiteout(path, OPAQUE_MARKER if mark else WHITEOUT_PREFIX + b"none")

    def _whiteout(self, directory: Path, name: bytes) -> None:
        written = (*self._through(directory), name)
        self._parts.append(Part(directory, entry(b"/".join(written)), Stage.WHITEOUT))

    def _with_leftovers(self, layer: list[tuple[Entry, bytes]]) -> Layer:
        if self._has(Feature.LEFTOVERS):
            for name in sorted(AUFS_LEFTOVERS):
                is_directory = name.endswith(b"plnk")
                kind = EntryType.DIRECTORY if is_directory else EntryType.FILE
                layer.insert(self._rng.randint(0, len(layer)), entry(name, kind))
        return layer

    # Ways through symlinks.

    def _find_aliases(self) -> Iterator[tuple[Path, list[Path]]]:
        if not self._has(Feature.THROUGH):
            return
        found: defaultdict[Path, list[Path]] = defaultdict(list)
        for path, node in sorted(self._after.items()):
            kept = self._before.get(path) is node and path not in self._plan.said
            if node.kind is EntryType.SYMLINK and kept:
                place = _leads_to(self._before, path)
                if place and place == _leads_to(self._after, path):
                    found[place].append(path)
        yield from found.items()

    def _written(self, path: Path) -> bytes:
        return b"/".join((*self._through(path[:-1]), *path[-1:]))

    def _through(self, directory: Path) -> Path:
        """Return a path of a directory, perhaps by way of a symlink to it or above it."""
        for end in range(len(directory), 0, -1):
            names = self._aliases.get(directory[:end])
            if names and self._rng.random() < 0.5:
                return self._rng.choice(names) + directory[end:]
        return directory

    # Order.

    def _add_overridden(self) -> None:
        for part in list(self._parts):
            if part.stage is Stage.WHITEOUT and self._rng.random() < 0.2:
                self._parts.append(part)
            elif part.stage is Stage.COUNTS and part.place and self._rng.random() < 0.3:
                written, node = self._written(part.place), self._after[part.place]
                self._parts.append(
                    Part(part.place, entry_of(written, self._other(node)), Stage.OVERRIDDEN)
                )

    def _other(self, node: Node) -> Node:
        if node.kind is EntryType.DIRECTORY:
            return replace(node, mode=0o711, ids=(5, 5), mtime=7 * SECOND, xattrs={})
        kind = self._rng.choice((EntryType.FILE, EntryType.SYMLINK, EntryType.DIRECTORY))
        content = b"" if kind is EntryType.DIRECTORY else b"overridden"
        return Node(kind, 0o640, (6, 6), 7 * SECOND, content)

    def _takes_a_place(self, path: Path) -> bool:
        """Tell whether something else than a directory is there until its entry comes."""
        if path not in self._before or self._plan.is_erased(path):
            return False
        return not self._is_directory(self._before, path)

    def _key(self, part: Part) -> tuple[float, Path]:
        if part.stage is Stage.WHITEOUT:
            return (self._rng.random() if Feature.LATE in self._features else 0, part.place)
        return (self._rng.random() if Feature.SHUFFLED in self._features else 0.5, part.place)

    def _is_directory(self, tree: Tree, path: Path) -> bool:
        return path in tree and tree[path].kind is EntryType.DIRECTORY


def _leads_to(tree: Tree, link: Path) -> Path | None:
    """Return the directory that a symlink to an absolute path names, if no other is on the way."""
    target = tree[link].content
    place = tuple(part for part in target.split(b"/") if part)
    if not target.startswith(b"/") or b".." in place or b"." in place:
        return None
    for end in range(1, len(place) + 1):
        node = tree.get(place[:end])
        if node is None or node.kind is not EntryType.DIRECTORY:
            return None
    return place
