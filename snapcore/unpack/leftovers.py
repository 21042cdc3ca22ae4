"""Snapshots in progress: how they are named, and what becomes of those that end in the middle."""

from __future__ import annotations

import logging
from typing import Final

from snapcore.errors import NotFound, SnapcoreError
from snapcore.locks import owner_alive
from snapcore.snapshots import Checkpoint, Snapshotter, no_checkpoint

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
            snapshotter.remove(info.name)
        except NotFound:
            continue
        removed.append(info.name)
    return tuple(removed)


def reclaim(snapshotter: Snapshotter, checkpoint: Checkpoint = no_checkpoint) -> None:
    """Finish what removals have left to `cleanup`; a failure is only logged.

    The work that asks for it is done already, and whoever comes next tries again.

    Args:
        snapshotter: whose files to delete.
        checkpoint: called again and again; what it raises ends the work.
    """
    try:
        snapshotter.cleanup(checkpoint=checkpoint)
    except SnapcoreError as error:
        _log.warning("cannot finish removals of snapshotter %r: %s", snapshotter.name, error)
