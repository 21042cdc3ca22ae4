"""Deletions: whiteouts and opaque markers, which act on the layers below only, in any order.

What they mean is defined against the tree as it was before the layer. One pass over the layer
gives the same result as long as no deletion comes after something that it could have changed;
where one does, `WhiteoutsFirst` asks for a second run, which collects all deletions before it
applies anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from snapcore.archive.entryerrors import refuse
from snapcore.archive.merged import Directory, MergedTree, NotADirectory, Touch, Trail
from snapcore.archive.removal import remove_children, remove_name
from snapcore.archive.types import Entry, WhiteoutsFirst
from snapcore.oci.whiteout import AUFS_LEFTOVERS, OPAQUE_MARKER, WHITEOUT_PREFIX

_NOT_NAMES: Final = frozenset({b"", b".", b".."})
_WHITEOUT_MODE: Final = stat.S_IFCHR


def hidden_name(entry: Entry) -> bytes | None:
    """Return the name that a whiteout entry deletes, None for any other entry.

    The opaque marker and AUFS leftovers give their own name back.

    Raises:
        RefusedInput: a whiteout of nothing, of `.` or `..`.
    """
    name = entry.path[-1]
    if not name.startswith(WHITEOUT_PREFIX):
        return None
    if name == OPAQUE_MARKER or name in AUFS_LEFTOVERS:
        return name
    deleted = name[len(WHITEOUT_PREFIX) :]
    if deleted in _NOT_NAMES:
        raise refuse(entry, "a whiteout that names nothing")
    return deleted


class Whiteouts:
    """Applies deletions to a merged tree."""

    def __init__(self, tree: MergedTree) -> None:
        self._tree = tree
        self._opaqued: set[bytes] = set()

    def apply(self, parts: tuple[bytes, ...], name: bytes) -> None:
        """Apply one deletion as it comes.

        Args:
            parts: components of the directory that holds the whiteout.
            name: what it deletes, or `OPAQUE_MARKER`.

        Raises:
            WhiteoutsFirst: something before it in this layer may have depended on it.
        """
        directory = self._resolve(parts)
        if directory is None:
            return
        try:
            if name == OPAQUE_MARKER:
                if directory.path in self._tree.busy:
                    raise WhiteoutsFirst
                self._make_opaque(directory.path)
            else:
                self._check_untouched(directory, name)
                self._delete(directory.path, name)
        finally:
            self._tree.release(directory)

    def apply_all(self, deletions: Iterable[tuple[tuple[bytes, ...], bytes]]) -> None:
        """Apply all deletions of a layer to the untouched tree, resolved before any is applied."""
        found: set[tuple[bytes, bytes]] = set()
        for parts, name in deletions:
            directory = self._resolve(parts)
            if directory is not None:
                found.add((directory.path, name))
                self._tree.release(directory)
        for path, name in sorted(found):
            if name == OPAQUE_MARKER:
                self._make_opaque(path)
        for path, name in sorted(found):
            if name != OPAQUE_MARKER:
                self._delete(path, name)

    def _resolve(self, parts: tuple[bytes, ...]) -> Directory | None:
        tree, trail = self._tree, Trail()
        try:
            directory = tree.resolve(parts, make=False, trail=trail)
        except NotADirectory:
            directory = None
        if self._is_certain(trail):
            return directory
        if directory is not None:
            tree.release(directory)
        return None

    def _is_certain(self, trail: Trail) -> bool:
        """Say whether a way leads to what was there before this layer.

        Returns:
            False if it leads to what this layer made where nothing was.

        Raises:
            WhiteoutsFirst: before this layer, it may have led elsewhere.
        """
        touched = self._tree.touched
        if any(touched.get(path) is Touch.CHANGED for path in trail.passed):
            raise WhiteoutsFirst
        if trail.missing:
            parent = trail.missing.rpartition(b"/")[0]
            if touched.get(trail.missing) is Touch.GONE_OTHER or parent in self._opaqued:
                raise WhiteoutsFirst
        return not any(touched.get(path) is Touch.FRESH for path in trail.passed)

    def _check_untouched(self, directory: Directory, name: bytes) -> None:
        touch = self._tree.touched.get(directory.at(name))
        if touch in (Touch.WALKED, Touch.CHANGED):
            raise WhiteoutsFirst

    def _delete(self, path: bytes, name: bytes) -> None:
        tree = self._tree
        directory = _reach(tree, path)
        if directory is None:
            return
        try:
            place = directory.at(name)
            found = tree.look(directory, name)
            if found is None or tree.touched.get(place) is Touch.FRESH:
                return
            is_directory = stat.S_ISDIR(found.status.st_mode)
            writable = tree.resolve(_split(path), make=True)
            if writable is None:
                return
            try:
                if found.in_upper:
                    remove_name(writable.upper, name)
                if tree.look_below(writable, name) is not None:
                    os.mknod(name, _WHITEOUT_MODE, 0, dir_fd=writable.upper)
            finally:
                tree.release(writable)
            tree.busy.add(path)
            tree.touched[place] = Touch.GONE_DIRECTORY if is_directory else Touch.GONE_OTHER
        finally:
            tree.release(directory)

    def _make_opaque(self, path: bytes) -> None:
        tree = self._tree
        directory = _reach(tree, path)
        if directory is None:
            return
        shines_through = directory.lower >= 0
        tree.release(directory)
        self._opaqued.add(path)
        if tree.overlay and not shines_through:
            return
        writable = tree.resolve(_split(path), make=True)
        if writable is None:
            return
        try:
            remove_children(writable.upper)
            if tree.overlay:
                tree.mark_opaque(path, writable.upper)
                tree.hide_below(writable)
        finally:
            tree.release(writable)


def _reach(tree: MergedTree, path: bytes) -> Directory | None:
    """Open a directory by its real path; None if an earlier deletion has taken it away."""
    try:
        return tree.resolve(_split(path), make=False)
    except NotADirectory:
        return None


def _split(path: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in path.split(b"/") if part)
