"""Parts of a layer, and an order of them that means what is meant.

The specification leaves the order of a layer's entries open. What it takes is kept as "after": a
hard link after its target, the entry that counts after those it overrides, and what lies in a
directory after the directory where that takes the place of something else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from graphlib import TopologicalSorter
from typing import TypeAlias

from snapcore.archive import Entry, EntryType
from support.layers import Path, entry
from support.tree_model import Node

Key: TypeAlias = tuple[float, Path]


class Stage(Enum):
    """What an entry is for."""

    WHITEOUT = auto()
    OVERRIDDEN = auto()
    COUNTS = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of a layer, before it has its place.

    Attributes:
        place: the path that it makes, or in which it deletes; without symlinks.
        item: the entry and its payload.
        stage: what it is for; one part of each place counts.
    """

    place: Path
    item: tuple[Entry, bytes]
    stage: Stage


def in_order(
    parts: Sequence[Part],
    links: Mapping[Path, Path],
    takes_a_place: Callable[[Path], bool],
    key: Callable[[Part], Key],
) -> list[Part]:
    """Return parts in an order that means what is meant.

    Args:
        parts: all of a layer.
        links: hard links and their targets.
        takes_a_place: tells whether something else than a directory is at a path until its entry
            comes.
        key: of parts that may come in either order, the one with the lower key comes first.
    """
    keys = [key(part) for part in parts]
    sorter = TopologicalSorter(_after_what(parts, links, takes_a_place))
    sorter.prepare()
    ready: list[tuple[Key, int]] = []
    order: list[Part] = []
    while sorter.is_active():
        for number in sorter.get_ready():
            heapq.heappush(ready, (keys[number], number))
        _, number = heapq.heappop(ready)
        order.append(parts[number])
        sorter.done(number)
    return order


def _after_what(
    parts: Sequence[Part], links: Mapping[Path, Path], takes_a_place: Callable[[Path], bool]
) -> dict[int, set[int]]:
    """Return for each part those that must come before it."""
    counts = {part.place: n for n, part in enumerate(parts) if part.stage is Stage.COUNTS}
    after: dict[int, set[int]] = {number: set() for number in range(len(parts))}
    for number, part in enumerate(parts):
        if part.stage is Stage.WHITEOUT:
            continue
        if part.stage is Stage.OVERRIDDEN:
            after[counts[part.place]].add(number)
        elif (target := links.get(part.place)) in counts:
            after[number].add(counts[target])
        above = (part.place[:end] for end in range(1, len(part.place)))
        after[number] |= {counts[p] for p in above if p in counts and takes_a_place(p)}
    return after


def entry_of(written: bytes, node: Node) -> tuple[Entry, bytes]:
    """Return the entry that makes a node."""
    is_link = node.kind is EntryType.SYMLINK
    return entry(
        written,
        node.kind,
        b"" if is_link else node.content,
        mode=node.mode,
        ids=node.ids,
        mtime=node.mtime,
        link=node.content if is_link else b"",
        device=node.device,
        xattrs=node.xattrs,
    )


def link_of(written: bytes, target: bytes, node: Node) -> tuple[Entry, bytes]:
    """Return the entry that makes a hard link, with the attributes of a node."""
    kind, mode = EntryType.HARDLINK, node.mode
    return entry(written, kind, mode=mode, ids=node.ids, mtime=node.mtime, link=target)
