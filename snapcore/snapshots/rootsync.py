"""Syncing the filesystem of a state root, and hearing of every write to it that failed."""

from __future__ import annotations

import os
import threading
from typing import Final

from snapcore.errors import DataLoss, FailedPrecondition, from_os_error
from snapcore.linux import syncfs


class RootSync:
    """The filesystem of one state root.

    Make it before anything is written: syncfs(2) tells, since Linux 5.8, of the writes that
    failed since the descriptor was opened, and of no others.

    Args:
        root: an existing directory.

    Raises:
        SnapcoreError: it cannot be opened.
    """

    __slots__ = ("_descriptor", "_guard", "root")

    def __init__(self, root: str) -> None:
        self.root: Final = root
        self._guard = threading.Lock()
        try:
            self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"snapshot root {root!r}") from error

    def sync(self) -> None:
        """Write out everything, and wait.

        Raises:
            DataLoss: writing failed. What was not on disk is lost for what anybody knows: a
                second sync would report success without having written it (syncfs(2)).
            FailedPrecondition: it is closed.
        """
        with self._guard:
            if self._descriptor < 0:
                raise FailedPrecondition(f"snapshot root {self.root!r} is closed")
            # A copy, so that neither a close in another thread nor a slow disk is in the way.
            descriptor = os.dup(self._descriptor)
        try:
            syncfs(descriptor)
        except OSError as error:
            raise DataLoss(
                f"what was written below {self.root!r} did not reach the disk: {error.strerror};"
                " check the disk, then reopen"
            ) from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the directory. Idempotent."""
        with self._guard:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
