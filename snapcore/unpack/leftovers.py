"""Snapshots in progress that a dead process left behind."""

from __future__ import annotations

from snapcore.errors import NotFound
from snapcore.locks import owner_alive
from snapcore.snapshots import Snapshotter
from snapcore.unpack.stage import EXTRACT_PREFIX

_OWNER_LENGTH = 32


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
