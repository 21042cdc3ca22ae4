"""A layer's deletions: whiteouts and opaque markers (OCI image-spec, layer.md, "Whiteouts").

They act on the layers below only, wherever they stand in the archive; `journal` says what that
means for a single pass. Here: their names, applying one as it comes, and applying all of them to
the untouched tree, each resolved before any is applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from snapcore.archive.failures import Blocked, Path, layer_error, shown
from snapcore.archive.journal import Tracking
from snapcore.archive.tree import MergedTree
from snapcore.archive.types import Entry
from snapcore.archive.walk import Observer, unobserved
from snapcore.errors import RefusedInput
from snapcore.oci.whiteout import AUFS_LEFTOVERS, OPAQUE_MARKER, WHITEOUT_PREFIX

_NOT_NAMES: Final = frozenset({b"", b".", b".."})


@dataclass(frozen=True, slots=True)
class Deletion:
    """One whiteout or opaque marker.

    Attributes:
        parent: the directory it stands in, as the layer names it.
        name: what it deletes there; None deletes all that the layers below have in it.
    """

    parent: Path
    name: bytes | None


def is_leftover(path: Path) -> bool:
    """Tell whether a path is, or lies in, what AUFS left behind in the layers of old builders."""
    return not AUFS_LEFTOVERS.isdisjoint(path)


def check_parent(path: Path) -> None:
    """Check that an entry does not lie below a directory with a whiteout's name.

    Raises:
        RefusedInput: it does.
    """
    if any(part.startswith(WHITEOUT_PREFIX) for part in path[:-1]):
        raise RefusedInput(f"layer entry {shown(path)}: it lies below a whiteout")


def deletion(entry: Entry) -> Deletion:
    """Return what an entry whose last component begins with `.wh.` deletes; its type is ignored.

    Raises:
        RefusedInput: it names nothing, or lies below another whiteout.
    """
    check_parent(entry.path)
    parent, name = entry.path[:-1], entry.path[-1]
    if name == OPAQUE_MARKER:
        return Deletion(parent, None)
    hidden = name[len(WHITEOUT_PREFIX) :]
    if hidden in _NOT_NAMES:
        raise RefusedInput(f"layer entry {shown(entry.path)}: a whiteout that names nothing")
    return Deletion(parent, hidden)


def collect(entries: Iterable[Entry]) -> tuple[Deletion, ...]:
    """Read a whole layer and return its deletions.

    Raises:
        RefusedInput: the layer, or a whiteout in it, is malformed.
    """
    return tuple(
        deletion(entry)
        for entry in entries
        if entry.path and entry.path[-1].startswith(WHITEOUT_PREFIX) and not is_leftover(entry.path)
    )


def delete(tree: MergedTree, journal: Tracking, item: Deletion) -> None:
    """Apply one deletion in the midst of a single pass.

    Raises:
        WhiteoutsFirst: what came before in this layer may have to do with it.
        OSError: as the calls that remove and make.
    """
    place = _resolve(tree, item, journal.check_component)
    if place is None:
        return
    if item.name is None:
        journal.check_opaque(place)
        tree.empty(place)
        journal.empty(place)
    else:
        journal.check_removal((*place, item.name))
        _erase(tree, place, item.name)


def delete_all(tree: MergedTree, items: Iterable[Deletion]) -> None:
    """Apply all deletions of a layer to the tree that it has not touched yet.

    Raises:
        SnapcoreError: a system call failed; what it was for is named.
    """
    opaques: set[Path] = set()
    whiteouts: set[Path] = set()
    for item in items:
        place = _resolve(tree, item, unobserved)
        if place is None:
            continue
        if item.name is None:
            opaques.add(place)
        else:
            whiteouts.add((*place, item.name))
    for path in sorted(opaques):
        try:
            tree.empty(path)
        except Blocked:
            continue
        except OSError as error:
            raise layer_error(error, path) from error
    for path in sorted(whiteouts):
        try:
            _erase(tree, path[:-1], path[-1])
        except OSError as error:
            raise layer_error(error, path) from error


def _resolve(tree: MergedTree, item: Deletion, observer: Observer) -> Path | None:
    """Return the canonical path of a deletion's directory; None if it deletes nothing."""
    try:
        seen = tree.see(item.parent, observer)
    except Blocked:
        return None
    try:
        if item.name is not None and tree.find(seen, item.name) is None:
            return None
        return seen.path
    finally:
        seen.close()


def _erase(tree: MergedTree, parent: Path, name: bytes) -> None:
    try:
        directory = tree.enter(parent)
    except Blocked:
        # Another deletion has taken the whole directory away.
        return
    try:
        tree.erase(directory, name)
    finally:
        directory.close()
