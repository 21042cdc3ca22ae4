"""Lock files: who may, who waits, and whether an owner is still alive.

All locks are flock(2) on files, so that any number of processes can share one root and the
kernel frees what a dead process held. A file is deleted only by who holds its lock.

Order, to be deadlock-free: chain locks bottom-up, inside a layer by snapshotter name; a holder
of a blob lock never waits for a chain lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from snapcore.errors import Unavailable

_POLL_SECONDS: Final = 0.02


class FileLock:
    """One flock file, held once.

    Not reentrant, and of one thread: make an instance for each holder.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: str) -> None:
        self.path: Final = path
        self._descriptor = -1

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; say whether it was."""
        descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            current = os.stat(self.path)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.ENOENT):
                return False
            raise
        if (current.st_dev, current.st_ino) != _identity(descriptor):
            # Somebody deleted the file between our open and our flock: this lock locks nothing.
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def acquire(self, checkpoint: Callable[[], None], *, shared: bool = False) -> None:
        """Wait for the lock, calling `checkpoint` about 50 times a second.

        Polling keeps the wait cancellable: a thread inside flock(2) is not.
        """
        while not self.try_acquire(shared=shared):
            checkpoint()
            time.sleep(_POLL_SECONDS)

    def acquire_or_raise(self, what: str, *, shared: bool = False) -> None:
        """Take the lock, or fail at once.

        Raises:
            Unavailable: another process or thread holds it; the message names `what`.
        """
        if not self.try_acquire(shared=shared):
            raise Unavailable(f"{what} is locked by another process or thread ({self.path!r})")

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Delete the lock file and give the lock back; whoever waits makes a new file.

        Safe because `try_acquire` checks that the file it locked still has its name.
        """
        if self._descriptor >= 0:
            os.unlink(self.path)
            self.release()

    def fileno(self) -> int:
        """Return the held descriptor, for passing to a process that shares the lock."""
        return self._descriptor


def discard_free(directory: str) -> int:
    """Delete the lock files that nobody holds, as killed processes leave them.

    What cannot be deleted now may be so the next time.

    Returns:
        How many there were.
    """
    discarded = 0
    with suppress(OSError):
        for name in os.listdir(directory):
            lock = FileLock(os.path.join(directory, name))
            if lock.try_acquire():
                lock.discard()
                discarded += 1
    return discarded


@contextmanager
def held(path: str, checkpoint: Callable[[], None], *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file at `path` for the duration of a `with` block."""
    lock = FileLock(path)
    lock.acquire(checkpoint, shared=shared)
    try:
        yield
    finally:
        lock.release()


class Owner:
    """This process, as the owner of unfinished things below a root.

    A file `owner/<uuid>`, locked for as long as the process lives. What is unfinished carries
    the uuid; others may touch it only once the owner is dead. Worker processes that inherit
    the descriptor keep the owner alive until the last of them ends.
    """

    __slots__ = ("_lock", "directory", "id")

    def __init__(self, root: str) -> None:
        self.directory: Final = os.path.join(root, "owner")
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.id: Final = uuid.uuid4().hex
        # Locked before it gets its name: nobody ever sees this owner's file unlocked.
        hidden = os.path.join(self.directory, f".{self.id}")
        self._lock = FileLock(hidden)
        while not self._lock.try_acquire():
            # Somebody clears away dead owners just now, and took this one for such.
            time.sleep(_POLL_SECONDS)
        os.rename(hidden, os.path.join(self.directory, self.id))

    def fileno(self) -> int:
        """Return the locked descriptor, for workers to inherit."""
        return self._lock.fileno()

    def close(self) -> None:
        """End this owner: remove its file and free its lock."""
        if self._lock.fileno() >= 0:
            os.unlink(os.path.join(self.directory, self.id))
            self._lock.release()


def owner_alive(root: str, owner_id: str) -> bool:
    """Tell whether the process that owns `owner_id` below `root` is alive."""
    path = os.path.join(root, "owner", os.path.basename(owner_id))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _no_estate(owner_id: str) -> None:
    """Have nothing to do for a dead owner."""
    del owner_id


def remove_dead_owners(root: str, bury: Callable[[str], None] = _no_estate) -> int:
    """Delete the files of dead owners below `root`.

    Args:
        root: holds `owner/`.
        bury: told the id of each before its file goes; nobody else buries it meanwhile.

    Returns:
        How many there were.
    """
    directory = os.path.join(root, "owner")
    removed = 0
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        lock = FileLock(os.path.join(directory, name))
        if lock.try_acquire():
            try:
                bury(name)
                os.unlink(lock.path)
            finally:
                lock.release()
            removed += 1
    return removed


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
