"""Walking over directory trees of any depth: measuring and deleting them.

By directory descriptor, never by path, so that no component's length or symlink matters; with
a loop instead of recursion and two descriptors however deep the tree is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from snapcore.errors import FailedPrecondition, from_os_error
from snapcore.snapshots.hookspecs import Checkpoint
from snapcore.snapshots.types import Usage

_BLOCK: Final = 512
_ENTRIES_PER_CHECKPOINT: Final = 1000
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_Identity = tuple[int, int]


def disk_usage(path: str, checkpoint: Checkpoint) -> Usage:
    """Measure a tree: unique inodes and the bytes of their blocks, its top included.

    Fit for a tree that changes meanwhile: what vanishes is not counted. What is mounted inside
    is not counted either.

    Args:
        path: the top directory.
        checkpoint: called for every directory and every 1,000 entries.

    Raises:
        NotFound: no such directory.
        SnapcoreError: it cannot be read.
    """
    try:
        top = os.open(path, _OPEN)
        try:
            return _measure(top, checkpoint)
        finally:
            os.close(top)
    except OSError as error:
        raise from_os_error(error, f"cannot measure {path!r}") from error


def remove_tree(directory: int, name: str, checkpoint: Checkpoint) -> int:
    """Delete a directory tree; nothing happens if it is not there.

    Several may delete the same tree at once. A tree that something is mounted in is refused
    when the walk comes to it, since deleting would go on in what is mounted.

    Args:
        directory: descriptor of the directory that holds the tree.
        name: the tree's name in it.
        checkpoint: called for every directory and every 1,000 entries; what it raises leaves
            the rest of the tree for the next time.

    Returns:
        Bytes freed: the blocks of every inode whose last link went.

    Raises:
        FailedPrecondition: something is mounted inside.
        OSError: the tree cannot be deleted.
    """
    top = _open_child(directory, name, force=True)
    if top is None:
        return 0
    try:
        if os.fstat(top).st_dev != os.fstat(directory).st_dev:
            raise FailedPrecondition(f"cannot delete {name!r}: something is mounted there")
        removal = _Removal(os.fstat(top).st_dev)
        _visit(top, removal.enter, removal.leave, checkpoint, force=True)
    finally:
        os.close(top)
    removal.leave(directory, name)
    return removal.freed


def empty_tree(path: str, checkpoint: Checkpoint) -> int:
    """Delete everything in a directory, which itself stays.

    Args:
        path: the directory.
        checkpoint: as for `remove_tree`.

    Returns:
        Bytes freed.

    Raises:
        NotFound: no such directory.
        FailedPrecondition: something is mounted inside.
        SnapcoreError: something cannot be deleted.
    """
    try:
        top = os.open(path, _OPEN)
        try:
            removal = _Removal(os.fstat(top).st_dev)
            _visit(top, removal.enter, removal.leave, checkpoint, force=True)
        finally:
            os.close(top)
    except OSError as error:
        raise from_os_error(error, f"cannot empty {path!r}") from error
    return removal.freed


class _Removal:
    """Deletes files on the way down and directories on the way up."""

    __slots__ = ("_device", "freed")

    def __init__(self, device: int) -> None:
        self._device = device
        self.freed = 0

    def enter(self, directory: int, checkpoint: Checkpoint) -> list[str]:
        status = os.fstat(directory)
        if status.st_dev != self._device:
            raise FailedPrecondition(
                f"cannot delete {os.readlink(f'/proc/self/fd/{directory}')!r}: it is mounted"
            )
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(directory, stat.S_IRWXU)
        inside: list[str] = []
        for entry in _entries(directory, checkpoint):
            if entry.is_dir(follow_symlinks=False):
                inside.append(entry.name)
            else:
                self._unlink(directory, entry)
        return inside

    def leave(self, parent: int, name: str) -> None:
        try:
            freed = os.stat(name, dir_fd=parent, follow_symlinks=False).st_blocks * _BLOCK
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        self.freed += freed

    def _unlink(self, directory: int, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
            os.unlink(entry.name, dir_fd=directory)
        except FileNotFoundError:
            return
        if status.st_nlink == 1:
            self.freed += status.st_blocks * _BLOCK


def _measure(top: int, checkpoint: Checkpoint) -> Usage:
    device = os.fstat(top).st_dev
    linked: set[int] = set()
    inodes = size = 0

    def enter(directory: int, checkpoint: Checkpoint) -> list[str]:
        nonlocal inodes, size
        status = os.fstat(directory)
        if status.st_dev != device:
            return []
        inodes, size = inodes + 1, size + status.st_blocks * _BLOCK
        inside: list[str] = []
        for entry in _entries(directory, checkpoint):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                inside.append(entry.name)
                continue
            if status.st_nlink > 1:
                if status.st_ino in linked:
                    continue
                linked.add(status.st_ino)
            inodes, size = inodes + 1, size + status.st_blocks * _BLOCK
        return inside

    _visit(top, enter, lambda _parent, _name: None, checkpoint, force=False)
    return Usage(inodes, size)


class _Level:
    """One directory on the way from the top to the current one."""

    __slots__ = ("identity", "inside", "name")

    def __init__(self, name: str, identity: _Identity, inside: list[str]) -> None:
        self.name = name
        self.identity = identity
        self.inside = inside


def _visit(
    top: int,
    enter: Callable[[int, Checkpoint], list[str]],
    leave: Callable[[int, str], None],
    checkpoint: Checkpoint,
    *,
    force: bool,
) -> None:
    """Call `enter` for each directory before and `leave` for each after those inside it.

    Args:
        top: descriptor of the top directory, for which `leave` is not called.
        enter: takes the directory's descriptor; returns the directories inside to go into.
        leave: takes the parent's descriptor and the directory's name.
        checkpoint: called for each directory.
        force: make directories accessible that are not.
    """
    levels = [_Level("", _identity(top), enter(top, checkpoint))]
    current = os.dup(top)
    try:
        while True:
            checkpoint()
            level = levels[-1]
            if level.inside:
                name = level.inside.pop()
                child = _open_child(current, name, force=force)
                if child is not None:
                    os.close(current)
                    current = child
                    levels.append(_Level(name, _identity(child), enter(child, checkpoint)))
                continue
            levels.pop()
            if not levels:
                return
            parent, reached = _climb(current, top, levels)
            os.close(current)
            current = parent
            if reached:
                leave(current, level.name)
    finally:
        os.close(current)


def _climb(current: int, top: int, levels: list[_Level]) -> tuple[int, bool]:
    """Open the last of `levels` from the directory below it.

    Where the tree was changed under us, levels that can no longer be reached are dropped; the
    second value tells that none was.
    """
    try:
        parent = os.open("..", _OPEN, dir_fd=current)
    except FileNotFoundError:
        parent = os.dup(top)
    if _identity(parent) == levels[-1].identity:
        return parent, True
    os.close(parent)
    wanted = len(levels)
    while True:
        found = _descend(top, levels)
        if found is not None:
            return found, len(levels) == wanted
        levels.pop()


def _descend(top: int, levels: list[_Level]) -> int | None:
    """Open the last of `levels` from the top, None if it is not there any more."""
    current = os.dup(top)
    for level in levels[1:]:
        child = _open_child(current, level.name, force=False)
        os.close(current)
        if child is None:
            return None
        current = child
        if _identity(current) != level.identity:
            os.close(current)
            return None
    return current


def _open_child(directory: int, name: str, *, force: bool) -> int | None:
    """Open a directory inside another, None if it is not there or no directory any more."""
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        if not force:
            raise
    os.chmod(name, stat.S_IRWXU, dir_fd=directory)
    return os.open(name, _OPEN, dir_fd=directory)


def _entries(directory: int, checkpoint: Checkpoint) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        for number, entry in enumerate(listing, 1):
            if number % _ENTRIES_PER_CHECKPOINT == 0:
                checkpoint()
            yield entry


def _identity(descriptor: int) -> _Identity:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
