"""A place for a probe to try things out, of which nothing stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from snapcore.errors import FailedPrecondition, ResourceExhausted
from snapcore.linux import UnmountFlag, umount
from snapcore.mount import Mount, mounts_below, temporary_mount

_LEAST_BYTES: Final = 256 * 1024
_LEAST_INODES: Final = 64
_PREFIX: Final = ".snapcore-probe-"


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

    Those that dead processes have left in the same place are deleted too.

    Args:
        root: the state root; if it does not exist yet, the nearest directory above it is used.

    Yields:
        Absolute path of an empty directory.

    Raises:
        ResourceExhausted: the filesystem is as good as full.
        OSError: it cannot be made or deleted.
    """
    place = existing_ancestor(root)
    remove_dead_trials(place)
    check_room(place)
    directory, lock = _locked_directory(place)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        os.close(lock)


@contextmanager
def trial_overlay(directory: str, lower: str, options: Sequence[str]) -> Iterator[str]:
    """Mount an overlay over one directory for the duration of a `with` block and yield where.

    Args:
        directory: a trial directory; what is written goes there.
        lower: the directory below.
        options: of the overlay, but for its directories.

    Raises:
        SnapcoreError: it cannot be mounted.
        OSError: its directories cannot be made.
    """
    place = tempfile.mkdtemp(dir=directory)
    upper, work = (os.path.join(place, name) for name in ("upper", "work"))
    os.mkdir(upper)
    os.mkdir(work)
    given = (*options, f"workdir={work}", f"upperdir={upper}", f"lowerdir={lower}")
    with temporary_mount((Mount("overlay", "overlay", options=given),), place) as merged:
        yield merged


def try_to_change(merged: str, name: bytes, data: bytes, what: str) -> None:
    """Append to the only file of a tree, read it, and delete it.

    Args:
        merged: the tree.
        name: of the file.
        data: what it holds.
        what: it is, for messages.

    Raises:
        FailedPrecondition: one of these does not work as it should.
        OSError: one of these fails.
    """
    path = os.path.join(merged, os.fsdecode(name))
    with open(path, "ab") as file:
        file.write(b"appended\n")
    with open(path, "rb") as file:
        found = file.read()
    if found != data + b"appended\n":
        raise FailedPrecondition(f"{what} holds {found!r} once written to")
    os.unlink(path)
    if os.listdir(merged):
        raise FailedPrecondition(f"{what} cannot be deleted")


def remove_dead_trials(place: str) -> None:
    """Delete what processes that were killed have left of their trials, mounts included.

    Args:
        place: where to look: a state root, or a directory above it that was there before it.
    """
    with suppress(OSError):
        for name in os.listdir(place):
            if name.startswith(_PREFIX):
                _remove_if_dead(os.path.join(place, name))


def _remove_if_dead(directory: str) -> None:
    # Whatever cannot be deleted, or is somebody's, may be so the next time.
    with suppress(OSError):
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid != os.geteuid():
                return
            for entry in mounts_below(directory):
                umount(entry.target, UnmountFlag.DETACH)
            shutil.rmtree(directory)
        finally:
            os.close(lock)


def _locked_directory(place: str) -> tuple[str, int]:
    """Make a directory and lock it for as long as this process, or a child of it, lives."""
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        # Until it is locked, somebody who deletes dead trials may take it for one.
        with suppress(FileNotFoundError, BlockingIOError):
            return directory, _lock(directory)


def _lock(directory: str) -> int:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(directory)
    except OSError:
        os.close(lock)
        raise
    return lock
