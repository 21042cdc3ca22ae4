"""Removing trees by directory descriptors, without recursion and without following anything."""

from __future__ import annotations

import os
import stat
from typing import Final

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER_ALL: Final = 0o700


def remove_name(directory: int, name: bytes) -> None:
    """Remove whatever `name` is in an open directory, with all that is below it.

    Raises:
        OSError: as unlinkat(2).
    """
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        _remove_tree(directory, name)
    else:
        os.unlink(name, dir_fd=directory)


def remove_children(directory: int) -> None:
    """Remove everything inside an open directory."""
    for name in os.listdir(directory):
        remove_name(directory, os.fsencode(name))


def open_directory(directory: int, name: bytes) -> int:
    """Open a subdirectory for reading; never a symlink.

    Raises:
        OSError: ENOTDIR or ELOOP if it is something else.
    """
    return os.open(name, _OPEN, dir_fd=directory)


def _remove_tree(directory: int, name: bytes) -> None:
    # A descriptor a level: depth is bounded by the layer's limits, well below RLIMIT_NOFILE.
    levels = [(directory, name, _open_for_removal(directory, name))]
    try:
        while levels:
            above, called, current = levels[-1]
            deeper = _remove_files(current)
            if deeper is not None:
                levels.append((current, deeper, _open_for_removal(current, deeper)))
                continue
            os.rmdir(called, dir_fd=above)
            os.close(levels.pop()[2])
    finally:
        for _, _, descriptor in levels:
            os.close(descriptor)


def _remove_files(directory: int) -> bytes | None:
    """Unlink what is not a directory; return a subdirectory, None if none is left."""
    deeper = None
    for text in os.listdir(directory):
        name = os.fsencode(text)
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            deeper = name
        else:
            os.unlink(name, dir_fd=directory)
    return deeper


def _open_for_removal(directory: int, name: bytes) -> int:
    try:
        return open_directory(directory, name)
    except PermissionError:
        # Without privilege, a directory's own mode can keep even its owner out.
        os.chmod(name, _OWNER_ALL, dir_fd=directory)
        return open_directory(directory, name)
