"""A place for a probe to try things out, of which nothing stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.errors import ResourceExhausted

_LEAST_BYTES: Final = 256 * 1024
_LEAST_INODES: Final = 64


def existing_ancestor(path: str) -> str:
    """Return the absolute `path`, or the nearest directory above it that exists."""
    current = os.path.abspath(path)
    while not os.path.isdir(current):
        current = os.path.dirname(current)
    return current


def check_room(place: str) -> None:
    """Refuse to try anything out on a full filesystem: what fails there says nothing.

    Raises:
        ResourceExhausted: it has less room, or fewer inodes, than trials take.
        OSError: it cannot be asked.
    """
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < _LEAST_BYTES or (status.f_files > 0 and status.f_favail < _LEAST_INODES):
        raise ResourceExhausted(
            f"no space left to try anything out on the filesystem of {place!r}: {free} bytes and"
            f" {status.f_favail} inodes are free"
        )


@contextmanager
def trial_directory(root: str) -> Iterator[str]:
    """Make a directory on the filesystem of a state root, and delete it with all in it.

    Args:
        root: the state root; if it does not exist yet, the nearest directory above it is used.

    Yields:
        Absolute path of an empty directory.

    Raises:
        ResourceExhausted: the filesystem is as good as full.
        OSError: it cannot be made or deleted.
    """
    check_room(existing_ancestor(root))
    directory = tempfile.mkdtemp(prefix=".snapcore-probe-", dir=existing_ancestor(root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
