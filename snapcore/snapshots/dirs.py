"""The directories of a disk backend: one for each snapshot, made and deleted crash-safely.

Below the state root, `snapshots/<id>` belongs to a recorded snapshot, `new-<id>` is being made
and `rm-<id>` being deleted. Whatever a crash leaves is one of: a `new-*` or `<id>` whose
reservation's owner is dead, an `<id>` without a record, a `rm-*`. `sweep` deletes just these.

`creating` is the whole ritual of prepare and view:

    with creating(store, dirs, Kind.ACTIVE, key, parent, labels) as draft:
        os.mkdir(os.path.join(draft.directory, "fs"), 0o755)   # any work, as long as it takes
    # here the snapshot exists, and its directory is dirs.path(draft.id)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from snapcore.errors import ResourceExhausted, SnapcoreError, from_os_error
from snapcore.locks import owner_alive, remove_dead_owners
from snapcore.snapshots.hookspecs import Checkpoint, no_checkpoint
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.tree import remove_tree
from snapcore.snapshots.types import Kind, Labels, Reclaimed

_NEW: Final = "new-"
_REMOVED: Final = "rm-"
_ROOT_MODE: Final = 0o755
"""What the contract says; the state root above it is closed to others."""

Dispose: TypeAlias = Callable[[str], None]
"""Undoes in a directory what deleting files cannot: subvolumes, devices, mounts. It may find
nothing to do, or half of it done, and raises SnapcoreError if it must be tried again."""


class SnapshotDirs:
    """The directories below one state root.

    Args:
        root: the state root, which exists.
        dispose: called with the path of each directory that is about to be deleted.

    Raises:
        SnapcoreError: `snapshots/` cannot be made in it.
    """

    __slots__ = ("_dispose", "directory", "root")

    def __init__(self, root: str, dispose: Dispose | None = None) -> None:
        self._dispose = dispose
        self.root: Final = os.path.abspath(root)
        self.directory: Final = os.path.join(self.root, "snapshots")
        with self._mapped("cannot make the directory of snapshots"):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def path(self, snapshot_id: int) -> str:
        """Return the absolute path of a recorded snapshot's directory."""
        return os.path.join(self.directory, str(snapshot_id))

    def create(self, snapshot_id: int) -> str:
        """Make the directory `new-<id>`, mode 0700, and return its absolute path.

        Raises:
            SnapcoreError: it cannot be made.
        """
        path = os.path.join(self.directory, f"{_NEW}{snapshot_id}")
        with self._mapped(f"cannot make {path!r}"):
            os.mkdir(path, 0o700)
        return path

    def publish(self, snapshot_id: int) -> str:
        """Give `new-<id>` its final name and return the absolute path.

        Raises:
            SnapcoreError: it cannot be renamed.
        """
        path = self.path(snapshot_id)
        with self._mapped(f"cannot make {path!r}"):
            os.rename(os.path.join(self.directory, f"{_NEW}{snapshot_id}"), path)
        return path

    def discard(self, snapshot_id: int) -> None:
        """Delete what `create`, or `publish`, has made, where it shall not be recorded.

        Raises:
            SnapcoreError: it cannot be deleted; cleanup will try again.
        """
        self.retire(snapshot_id)
        self.withdraw(snapshot_id)
        self._delete(f"{_REMOVED}{snapshot_id}", no_checkpoint)

    def withdraw(self, snapshot_id: int) -> int:
        """Delete `new-<id>`, which `publish` has not renamed, and return the bytes freed.

        Raises:
            SnapcoreError: it cannot be deleted; cleanup will try again.
        """
        return self._delete(f"{_NEW}{snapshot_id}", no_checkpoint)

    def retire(self, snapshot_id: int) -> bool:
        """Rename `<id>` to `rm-<id>`, once its record is gone; say whether it was there.

        Raises:
            SnapcoreError: it cannot be renamed.
        """
        with self._mapped(f"cannot remove {self.path(snapshot_id)!r}"):
            try:
                os.rename(
                    self.path(snapshot_id),
                    os.path.join(self.directory, f"{_REMOVED}{snapshot_id}"),
                )
            except FileNotFoundError:
                return False
        return True

    def delete(self, snapshot_id: int, checkpoint: Checkpoint) -> int:
        """Delete the retired `rm-<id>` and return the bytes freed.

        Raises:
            FailedPrecondition: something is mounted inside.
            SnapcoreError: it cannot be deleted; cleanup will try again.
        """
        return self._delete(f"{_REMOVED}{snapshot_id}", checkpoint)

    def sweep(self, store: MetaStore, checkpoint: Checkpoint) -> Reclaimed:
        """Delete what removals and crashes have left, and nothing that is alive.

        Safe at any time: directories are listed first and records after, so that what is made
        meanwhile is either not listed or recorded; and an id is never used again.

        Raises:
            SnapcoreError: something could not be deleted; all the rest was tried.
        """
        with self._mapped("cannot list the directory of snapshots"):
            names = sorted(os.listdir(self.directory))
        ids = store.ids()
        dead = {
            number for number, owner in ids.reserved.items() if not owner_alive(self.root, owner)
        }
        alive = ids.recorded | (ids.reserved.keys() - dead)
        directories = size = 0
        failures: list[SnapcoreError] = []
        for name in names:
            checkpoint()
            leftover = _leftover(name, alive.__contains__)
            if leftover is None:
                continue
            number, published = leftover
            try:
                if published:
                    self.retire(number)
                    name = f"{_REMOVED}{number}"
                size += self._delete(name, checkpoint)
                directories += 1
            except SnapcoreError as error:
                failures.append(error)
                dead.discard(number)
        reservations = store.drop_reservations(dead)
        with self._mapped("cannot remove the files of dead owners"):
            remove_dead_owners(self.root)
        if failures:
            raise failures[0]
        return Reclaimed(directories, reservations, size)

    def _delete(self, name: str, checkpoint: Checkpoint) -> int:
        path = os.path.join(self.directory, name)
        if self._dispose is not None:
            self._dispose(path)
        with self._mapped(f"cannot delete {path!r}"):
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return remove_tree(directory, name, checkpoint)
            finally:
                os.close(directory)

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, what) from error


@dataclass(frozen=True, slots=True)
class Draft:
    """A snapshot in the making.

    Attributes:
        id: its id; the directory will be `SnapshotDirs.path(id)`.
        directory: absolute path of the directory to fill, mode 0700.
        parents: ids of its parents, the nearest first.
    """

    id: int
    directory: str
    parents: tuple[int, ...]


@contextmanager
def creating(
    store: MetaStore, dirs: SnapshotDirs, kind: Kind, key: str, parent: str, labels: Labels
) -> Iterator[Draft]:
    """Create a snapshot: the block fills the directory, and then it is there, or nothing is.

    Yields:
        The draft.

    Raises:
        InvalidArgument: the key or a label is malformed; or the parent is not Committed.
        NotFound: no such parent, or it went while the block ran.
        DataLoss: the parent, or a snapshot below it, is broken.
        AlreadyExists: the key is taken, or was while the block ran.
        SnapcoreError: a directory could not be made; or what the block raised.
    """
    reservation = store.reserve(kind, key, parent, labels)
    recorded = False
    try:
        yield Draft(reservation.id, dirs.create(reservation.id), reservation.parents)
        dirs.publish(reservation.id)
        store.record(reservation)
        recorded = True
    finally:
        if not recorded:
            _undo(store, dirs, reservation.id)


def make_root(path: str) -> None:
    """Make a snapshot's root directory: mode 0755, whatever umask and ACLs above it say.

    Raises:
        OSError: it cannot be made.
    """
    os.mkdir(path)
    # A default ACL above the state root must not show in a snapshot (acl(5)).
    for name in os.listxattr(path):
        if name.startswith("system.posix_acl_"):
            os.removexattr(path, name)
    os.chmod(path, _ROOT_MODE)


def _undo(store: MetaStore, dirs: SnapshotDirs, snapshot_id: int) -> None:
    # The first failure is the one to report; what this one leaves is found by cleanup. The
    # row goes first: where it is no reservation any more, the directory is somebody's.
    with suppress(SnapcoreError):
        try:
            dropped = store.drop_reservations((snapshot_id,))
        except ResourceExhausted:
            # A full disk, maybe by this very directory: what has not got its final name is ours.
            dirs.withdraw(snapshot_id)
            dropped = store.drop_reservations((snapshot_id,))
        if dropped:
            dirs.discard(snapshot_id)


def _leftover(name: str, alive: Callable[[int], bool]) -> tuple[int, bool] | None:
    """Return the id of a directory that nobody owns, and whether it has its final name."""
    for prefix in (_REMOVED, _NEW, ""):
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isascii() and number.isdigit():
            owned = prefix != _REMOVED and alive(int(number))
            return None if owned else (int(number), not prefix)
    return None
