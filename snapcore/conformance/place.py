"""Deleting the directory of a check, whatever a snapshotter has left mounted in it.

A bind mount that was leaked shows files of somebody else, and is no other filesystem that a
deletion would stop at: who deletes through it deletes those.
"""

from __future__ import annotations

import os
from contextlib import suppress

from snapcore.errors import FailedPrecondition, from_os_error
from snapcore.linux import UnmountFlag, umount
from snapcore.mount import mounts_below
from snapcore.snapshots import no_checkpoint
from snapcore.snapshots.tree import empty_tree


def empty_place(place: str) -> None:
    """Unmount everything below a directory, then delete what is in it.

    Args:
        place: the directory, which stays, and may be a mount point itself.

    Raises:
        FailedPrecondition: something cannot be unmounted; nothing is deleted.
        SnapcoreError: something cannot be deleted.
    """
    _unmount(place, os.path.join(os.path.realpath(place), ""))
    # Checks make trees that are deeper than most programs can delete.
    empty_tree(place, no_checkpoint)


def delete_place(place: str) -> None:
    """Delete a directory as `empty_place` does, and the directory itself.

    Args:
        place: the directory, which the caller has made.

    Raises:
        FailedPrecondition: something cannot be unmounted; nothing is deleted.
        SnapcoreError: something cannot be deleted.
    """
    _unmount(place, os.path.realpath(place))
    try:
        empty_tree(place, no_checkpoint)
        os.rmdir(place)
    except OSError as error:
        raise from_os_error(error, f"cannot delete {place!r}") from error


def _unmount(place: str, beginning: str) -> None:
    """Unmount what is mounted where paths begin so, children first; lazily, if it is in use."""
    for target in _mounted(place, beginning):
        # What went with another one is gone; the table tells what could not be unmounted.
        with suppress(OSError):
            umount(target, UnmountFlag.DETACH | UnmountFlag.NOFOLLOW)
    left = _mounted(place, beginning)
    if left:
        raise FailedPrecondition(
            f"{left[0]!r} is still mounted, so nothing was deleted, since that would go on in"
            f" what is mounted; unmount it, then delete what is in {place!r}"
        )


def _mounted(place: str, beginning: str) -> list[str]:
    return [m.target for m in mounts_below(place) if m.target.startswith(beginning)]
