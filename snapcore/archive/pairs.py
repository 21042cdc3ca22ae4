"""Two trees side by side, name by name, in the order in which a layer describes the second."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from snapcore.archive.descent import Descent
from snapcore.archive.failures import Path, shown
from snapcore.errors import RefusedInput
from snapcore.oci.whiteout import WHITEOUT_PREFIX


@dataclass(frozen=True, slots=True)
class Pair:
    """One name in either tree.

    Attributes:
        path: where; () is the root.
        before: its status in the first tree; None if it is not there, or there is no such tree.
        after: its status in the second tree; None if it was deleted.
    """

    path: Path
    before: os.stat_result | None
    after: os.stat_result | None


@dataclass(slots=True)
class _Level:
    """A directory on the way down: what is still to visit in it, last first."""

    left: list[Pair]
    both: bool


def side_by_side(
    before: Descent | None, after: Descent, is_deletion: Callable[[os.stat_result], bool]
) -> Iterator[Pair]:
    """Yield the root, then depth first what either tree has, sorted by the names in a layer.

    When a pair is yielded, both descents are at its parent directory, the first one only if it
    has that. Below what is a directory in the second tree alone only that one is looked at, and
    nothing below what it lacks. Memory grows with the depth and the widest directory.

    Args:
        before: the first tree.
        after: the second tree.
        is_deletion: tells what in the second tree stands for something deleted.

    Raises:
        RefusedInput: a name that means a deletion in layers.
        FailedPrecondition: a directory was moved.
        OSError: as the calls that read.
    """
    yield Pair((), os.fstat(before.descriptor) if before else None, os.fstat(after.descriptor))
    levels = [_Level(_pairs((), before, after, is_deletion), before is not None)]
    while levels:
        level = levels[-1]
        if not level.left:
            levels.pop()
            if levels:
                after.up()
                if level.both and before:
                    before.up()
            continue
        pair = level.left.pop()
        yield pair
        if pair.after and stat.S_ISDIR(pair.after.st_mode):
            both = pair.before is not None and stat.S_ISDIR(pair.before.st_mode)
            after.down(pair.path[-1])
            if both and before:
                before.down(pair.path[-1])
            below = _pairs(pair.path, before if both else None, after, is_deletion)
            levels.append(_Level(below, both))


def _pairs(
    path: Path,
    before: Descent | None,
    after: Descent,
    is_deletion: Callable[[os.stat_result], bool],
) -> list[Pair]:
    old = {name: before.status(name) for name in before.names()} if before else {}
    new = {name: after.status(name) for name in after.names()}
    found = []
    for name in old.keys() | new.keys():
        if name.startswith(WHITEOUT_PREFIX):
            raise RefusedInput(f"{shown((*path, name))} cannot be in a layer: it means a deletion")
        status = new.get(name)
        gone = status is not None and is_deletion(status)
        found.append(Pair((*path, name), old.get(name), None if gone else status))
    found.sort(key=_name_in_layer, reverse=True)
    return found


def _name_in_layer(pair: Pair) -> bytes:
    name = pair.path[-1]
    return name if pair.after else WHITEOUT_PREFIX + name
