"""What a layer has done so far, to tell whether a whiteout may still be applied in one pass.

Whiteouts and opaque markers act on the layers below only, wherever in the archive they stand.
So the right result is: all of them applied to the tree M below, each resolved in M as it was;
then all other entries in their order. One pass gives the same as long as nothing that a whiteout
removes, and nothing that its parent is resolved through, has been changed by an earlier entry.
The journal notices when that is not so, and raises `WhiteoutsFirst`.

Paths here are canonical: resolved in the merged tree, free of symlinks.
"""

from __future__ import annotations

import os
import stat
from enum import Enum, auto
from typing import Protocol

from snapcore.archive.failures import Blocked, Path
from snapcore.archive.types import WhiteoutsFirst
from snapcore.errors import RefusedInput


class Was(Enum):
    """What the layers below have at a path that this layer changed the kind of."""

    ABSENT = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    OTHER = auto()

    @classmethod
    def of(cls, status: os.stat_result | None) -> Was:
        """Return the kind of a node, None being nothing."""
        if status is None:
            return cls.ABSENT
        if stat.S_ISDIR(status.st_mode):
            return cls.DIRECTORY
        return cls.SYMLINK if stat.S_ISLNK(status.st_mode) else cls.OTHER

    @property
    def leads_on(self) -> bool:
        """Whether the way of a path can go through it."""
        return self is Was.DIRECTORY or self is Was.SYMLINK


class Journal(Protocol):
    """What the applier reports, and may ask."""

    def touch(self, path: Path) -> None:
        """Note that an entry made, replaced or looked through `path`, in populated parents."""

    def populate(self, path: Path) -> None:
        """Note that a directory, and each one above it, is used by an entry below it."""

    def change(self, path: Path, before: Was, after: Was) -> None:
        """Note that the kind of node at `path` changes."""

    def empty(self, path: Path) -> None:
        """Note that an opaque marker emptied a directory."""

    def imply(self, path: Path) -> None:
        """Note that a directory is made because an entry below it needs it."""

    def follow(self, path: Path) -> None:
        """Note that the way of an entry, or of a hard link's target, goes through a symlink."""

    def refuse(self, message: str) -> RefusedInput:
        """Return the refusal of an entry that the tree, as it is now, does not allow.

        Raises:
            WhiteoutsFirst: whiteouts yet to come may change that.
        """


class Untracked:
    """The journal of a layer whose whiteouts are applied already, or that has nothing below."""

    def touch(self, path: Path) -> None:
        """Do nothing."""

    def populate(self, path: Path) -> None:
        """Do nothing."""

    def change(self, path: Path, before: Was, after: Was) -> None:
        """Do nothing."""

    def empty(self, path: Path) -> None:
        """Do nothing."""

    def imply(self, path: Path) -> None:
        """Do nothing."""

    def follow(self, path: Path) -> None:
        """Do nothing."""

    def refuse(self, message: str) -> RefusedInput:
        """Return the refusal."""
        return RefusedInput(message)


class Tracking:
    """The journal of a single pass.

    Sets of hashes, not of paths, keep a layer of a million entries in little memory; equal
    hashes of different paths cost a second pass and nothing else.
    """

    def __init__(self) -> None:
        self._touched: set[int] = set()
        self._populated: set[int] = set()
        self._below: dict[Path, Was] = {}
        self._emptied: set[Path] = set()

    def touch(self, path: Path) -> None:
        """Note that an entry made, replaced or looked through `path`, in populated parents."""
        self._touched.add(hash(path))

    def populate(self, path: Path) -> None:
        """Note that a directory, and each one above it, is used by an entry below it."""
        while (key := hash(path)) not in self._populated:
            self._populated.add(key)
            if not path:
                return
            path = path[:-1]

    def change(self, path: Path, before: Was, after: Was) -> None:
        """Note that the kind of node at `path` changes."""
        # Only directories and symlinks change how paths resolve; the first note is the truth.
        if before.leads_on or after.leads_on:
            self._below.setdefault(path, before)

    def empty(self, path: Path) -> None:
        """Note that an opaque marker emptied a directory."""
        self._emptied.add(path)

    def imply(self, path: Path) -> None:
        """Do nothing: `change` says it as well."""

    def follow(self, path: Path) -> None:
        """Do nothing: `touch` says it as well."""

    def refuse(self, message: str) -> RefusedInput:
        """Raise WhiteoutsFirst, since a whiteout yet to come may remove what is in the way."""
        raise WhiteoutsFirst(message)

    def check_removal(self, path: Path) -> None:
        """Check that a whiteout may remove `path` now.

        Raises:
            WhiteoutsFirst: an entry of this layer is there or below, or was resolved through it.
        """
        key = hash(path)
        if key in self._touched or key in self._populated:
            raise WhiteoutsFirst(f"whiteout of {path!r}, which the layer has used before")

    def check_opaque(self, path: Path) -> None:
        """Check that an opaque marker may empty the directory `path` now.

        Raises:
            WhiteoutsFirst: an entry of this layer is below it.
        """
        if hash(path) in self._populated:
            raise WhiteoutsFirst(f"opaque marker in {path!r}, in which the layer has entries")

    def check_component(self, path: Path, last: bool) -> None:
        """Check that a whiteout's parent resolves here as it does in the layers below.

        Args:
            path: the component that is about to be looked at.
            last: whether it is the whiteout's parent itself.

        Raises:
            Blocked: the layers below have no directory there: nothing to remove.
            WhiteoutsFirst: it has been changed, so the answer needs the tree as it was.
        """
        if path[:-1] in self._emptied:
            raise WhiteoutsFirst(f"whiteout through {path!r}, which an opaque marker removed")
        below = self._below.get(path)
        if below is None:
            return
        if below is Was.SYMLINK or (below is Was.DIRECTORY and not last):
            raise WhiteoutsFirst(f"whiteout through {path!r}, which the layer has changed")
        # A directory of the layers below that is gone took what the whiteout names with it.
        raise Blocked("the layers below have no directory there any more")
