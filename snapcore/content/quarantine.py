"""What the medium has damaged: kept aside for a while, so that somebody can look at it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from snapcore.content.layout import listing, os_errors

_log = logging.getLogger(__name__)
_KEPT_SECONDS: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Quarantined:
    """How much is set aside.

    Attributes:
        count: damaged blobs and downloads.
        size: bytes of them.
    """

    count: int = 0
    size: int = 0


class Quarantine:
    """The directory of damaged blobs and downloads.

    Args:
        directory: where they are; made by who sets the first one aside.
    """

    __slots__ = ("_directory",)

    def __init__(self, directory: str) -> None:
        self._directory: Final = directory

    def measure(self) -> Quarantined:
        """Return how much is set aside.

        Raises:
            SnapcoreError: it cannot be read.
        """
        with os_errors("quarantine"):
            sizes = [_size(path) for path in self._paths()]
        return Quarantined(len(sizes), sum(sizes))

    def expire(self) -> int:
        """Delete what was set aside a month ago or earlier; return how many things.

        What cannot be deleted, as a bad medium may have it, stays.

        Raises:
            SnapcoreError: the directory cannot be read.
        """
        before = time.time() - _KEPT_SECONDS
        count = 0
        with os_errors("quarantine"):
            paths = tuple(self._paths())
        for path in paths:
            try:
                # The time of its status is that of the move.
                if os.lstat(path).st_ctime < before:
                    _delete(path)
                    count += 1
            except OSError as error:
                _log.warning("cannot delete what is in quarantine: %s", error)
        return count

    def _paths(self) -> Iterator[str]:
        return (os.path.join(self._directory, name) for name in listing(self._directory))


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(os.path.join(path, name)).st_size for name in listing(path))


def _delete(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
