"""A place for a probe to try things out, of which nothing stays."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def existing_ancestor(path: str) -> str:
    """Return the absolute `path`, or the nearest directory above it that exists."""
    current = os.path.abspath(path)
    while not os.path.isdir(current):
        current = os.path.dirname(current)
    return current


@contextmanager
def trial_directory(root: str) -> Iterator[str]:
    """Make a directory on the filesystem of a state root, and delete it with all in it.

    Args:
        root: the state root; if it does not exist yet, the nearest directory above it is used.

    Yields:
        Absolute path of an empty directory.

    Raises:
        OSError: it cannot be made or deleted.
    """
    directory = tempfile.mkdtemp(prefix=".snapcore-probe-", dir=existing_ancestor(root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
