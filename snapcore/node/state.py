"""The private directory of each process that uses a node: mount points, and nothing else.

It has the name of the process's owner. Whoever dies leaves it behind, perhaps with something
mounted, so nothing in here ever deletes a file: it would be one of a snapshot.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from snapcore.linux import UnmountFlag, umount
from snapcore.mount import mounts_below

_log = logging.getLogger(__name__)


def remove_private(directory: str) -> None:
    """Remove a process's private directory; what is in use stays."""
    for path, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):
            os.rmdir(path)


def bury(directory: str) -> None:
    """Unmount what a dead process has mounted in its private directory, and remove that."""
    for entry in mounts_below(directory):
        try:
            umount(entry.target, UnmountFlag.DETACH)
        except OSError as error:
            _log.warning("cannot unmount what a dead process left: %s", error)
    remove_private(directory)
