"""Which names of two trees are the same inode, and whether a layer must say so again."""

from __future__ import annotations

import os
import stat
from typing import Final, TypeAlias

from snapcore.archive.failures import Path
from snapcore.archive.pairs import Pair

Inode: TypeAlias = tuple[int, int]


class LinkGroups:
    """The names of each inode that has several, noted on a walk of its own before the diff.

    A group of the second tree is unchanged if exactly its names, of those that still exist, were
    one group in the first. Else all of it is written again: other readers know no hard links to
    the layers below.
    """

    def __init__(self) -> None:
        self._before: Final[dict[Inode, list[Path]]] = {}
        self._after: Final[dict[Inode, list[Path]]] = {}

    def note(self, pair: Pair) -> None:
        """Take one name in; they come in the order of the walk."""
        if pair.after is None or stat.S_ISDIR(pair.after.st_mode):
            return
        for groups, status in ((self._after, pair.after), (self._before, pair.before)):
            if status and status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                groups.setdefault(inode(status), []).append(pair.path)

    def first(self, pair: Pair) -> Path:
        """Return the first name of what a pair has in the second tree; perhaps its own."""
        return self._names(self._after, pair.after, pair.path)[0]

    def unchanged(self, pair: Pair) -> bool:
        """Tell whether a name is linked with the same names in both trees."""
        before = self._names(self._before, pair.before, pair.path)
        return before == self._names(self._after, pair.after, pair.path)

    @staticmethod
    def _names(
        groups: dict[Inode, list[Path]], status: os.stat_result | None, path: Path
    ) -> list[Path]:
        if status is None or status.st_nlink < 2:
            return [path]
        # A link made since the walk: what is read is no longer one state of the tree anyway.
        return groups.get(inode(status), [path])


def inode(status: os.stat_result) -> Inode:
    """Return what is equal for two names of one inode."""
    return status.st_dev, status.st_ino
