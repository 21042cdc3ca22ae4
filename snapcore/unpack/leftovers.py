"""Snapshots in progress: how they are named, and what becomes of those that end in the middle."""

from __future__ import annotations

import logging
from typing import Final

from snapcore.errors import NotFound, ResourceExhausted, SnapcoreError
from snapcore.locks import owner_alive
from snapcore.snapshots import Checkpoint, Snapshotter, empty_tree, no_checkpoint

EXTRACT_PREFIX: Final = "extract-"
"""Keys of layers in progress begin so; the owner's id follows."""
_OWNER_LENGTH: Final = 32
_log = logging.getLogger(__name__)


def remove_leftovers(snapshotter: Snapshotter, root: str) -> tuple[str, ...]:
    """Remove the `extract-…` keys whose owner is dead.

    Args:
        snapshotter: whose keys to look at.
        root: where the owner files are.

    Returns:
        The keys that were removed.
    """
    pattern = f"name~=^{EXTRACT_PREFIX}[0-9a-f]{{{_OWNER_LENGTH}}}-"
    # Views are those of parents, made to settle a layer that was applied apart.
    filters = (f"kind==active,{pattern}", f"kind==view,{pattern}")
    removed = []
    for info in list(snapshotter.walk(filters)):
        owner = info.name[len(EXTRACT_PREFIX) :][:_OWNER_LENGTH]
        if owner_alive(root, owner):
            continue
        try:
            remove_unfinished(snapshotter, info.name)
        except NotFound:
            continue
        except SnapcoreError as error:
            _log.warning("cannot remove unfinished snapshot %r: %s", info.name, error)
            continue
        removed.append(info.name)
    return tuple(removed)


def remove_unfinished(
    snapshotter: Snapshotter, key: str, checkpoint: Checkpoint = no_checkpoint
) -> None:
    """Remove a snapshot in progress, be the disk full.

    Even to forget, a database must write. Where it cannot, the files that were applied go
    first: they may be what fills the disk.

    Args:
        snapshotter: whose key it is.
        key: an Active that nobody works on any more, or a View.
        checkpoint: called again and again; what it raises ends the work.

    Raises:
        NotFound: no such key.
        SnapcoreError: it cannot be removed.
    """
    try:
        snapshotter.remove(key)
    except ResourceExhausted:
        target = snapshotter.target(key)
        if not target.directory:
            raise
        empty_tree(target.directory, checkpoint)
        snapshotter.remove(key)


def is_in_progress(root: str, key: str) -> bool:
    """Tell whether a key is that of a layer which a living process works on.

    Args:
        root: where the owner files are.
        key: of an Active snapshot or a View.
    """
    if not key.startswith(EXTRACT_PREFIX):
        return False
    return owner_alive(root, key[len(EXTRACT_PREFIX) :][:_OWNER_LENGTH])


def reclaim(snapshotter: Snapshotter, checkpoint: Checkpoint = no_checkpoint) -> int:
    """Finish what removals have left to `cleanup`; a failure is only logged.

    The work that asks for it is done already, and whoever comes next tries again.

    Args:
        snapshotter: whose files to delete.
        checkpoint: called again and again; what it raises ends the work.

    Returns:
        How many directories are gone.
    """
    try:
        return snapshotter.cleanup(checkpoint=checkpoint).directories
    except SnapcoreError as error:
        _log.warning("cannot finish removals of snapshotter %r: %s", snapshotter.name, error)
        return 0
