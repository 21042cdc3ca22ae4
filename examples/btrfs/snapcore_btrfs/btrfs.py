"""A snapshotter of btrfs subvolumes.

Below the state root:

    metadata.db          records
    snapshots/<id>/fs    the subvolume

A child is a writable snapshot of its parent's subvolume. A View of a parent is a read-only bind
mount of the parent's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from snapcore.errors import Unimplemented, from_os_error
from snapcore.mount import Mount
from snapcore.snapshots import (
    Checkpoint,
    DiskStore,
    FlushReport,
    Info,
    Kind,
    Labels,
    Mounts,
    Page,
    Reclaimed,
    Usage,
    hookimpl,
    id_mapping,
)
from snapcore_btrfs import subvolume

_TREE: Final = "fs"
_ROOT_MODE: Final = 0o755


class BtrfsSnapshotter:
    """The snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root, on btrfs; made if it is missing.

    Raises:
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_records")

    def __init__(self, root: str) -> None:
        self._disk: Final = DiskStore(root, dispose=_dispose)
        self._records: Final = self._disk.records

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        return self._records.stat(key)

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        return self._records.update(info, fieldpaths)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`: what changed since the parent's subvolume was taken."""
        checkpoint()
        record = self._records.get(key)
        if record.usage is not None:
            return record.usage
        if record.info.kind is Kind.VIEW and record.info.parent:
            return Usage()
        return self._measure(record.id, record.info.parent)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind mount."""
        stack = self._records.stack(key)
        return self._mounts(stack.record.info.kind, stack.record.id, stack.parents)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`."""
        checkpoint()
        with self._disk.creating(Kind.ACTIVE, key, parent, labels) as draft:
            _refuse_id_map(key, labels)
            tree = os.path.join(draft.directory, _TREE)
            with _named(f"subvolume {tree!r}"):
                if draft.parents:
                    subvolume.seal(self._tree(draft.parents[0]))
                    subvolume.snapshot(self._tree(draft.parents[0]), tree)
                else:
                    _make_empty(tree)
        return self._mounts(Kind.ACTIVE, draft.id, draft.parents)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        checkpoint()
        with self._disk.creating(Kind.VIEW, key, parent, labels) as draft:
            _refuse_id_map(key, labels)
            tree = (
                self._tree(draft.parents[0])
                if draft.parents
                else os.path.join(draft.directory, _TREE)
            )
            with _named(f"subvolume {tree!r}"):
                if not draft.parents:
                    _make_empty(tree)
                subvolume.seal(tree)
        return self._mounts(Kind.VIEW, draft.id, draft.parents)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`.

        Raises:
            Unimplemented: it would have to be rebased; a subvolume has its parent's files in it.
        """
        checkpoint()
        plan = self._records.check_commit(name, key, parent)
        below = self._records.stat(key).parent
        if parent and below != parent:
            raise Unimplemented(
                f"snapshot {key!r} cannot be rebased onto {parent!r}: a btrfs subvolume has all"
                " files of its parent; prepare it on that parent"
            )
        info = self._records.commit(plan, labels, self._measure(plan.id, below))
        # Not before: a crash in between would leave an Active that nobody can write in. And if it
        # does not come to this, the first that stands on the snapshot seals it.
        with suppress(OSError):
            subvolume.seal(self._tree(plan.id))
        return info

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        return self._disk.remove(key, checkpoint).info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._records.walk(filters, after, limit)

    @hookimpl
    def mark_broken(self, name: str) -> Info:
        """See `SnapshotterSpec.mark_broken`."""
        return self._records.mark_broken(name)

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`."""
        return self._disk.flush()

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`."""
        return self._disk.cleanup(checkpoint)

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        return self._disk.close()

    def _tree(self, number: int) -> str:
        return self._disk.path(number, _TREE)

    def _mounts(self, kind: Kind, number: int, parents: tuple[int, ...]) -> Mounts:
        if kind is Kind.ACTIVE:
            return (Mount("bind", self._tree(number), options=("rbind", "rw")),)
        tree = self._tree(parents[0] if parents else number)
        return (Mount("bind", tree, options=("rbind", "ro")),)

    def _measure(self, number: int, parent: str) -> Usage:
        tree = self._tree(number)
        with _named(f"cannot measure {tree!r}"):
            found = subvolume.changed(tree, everything=not parent)
        return Usage(found.inodes, found.size)


def _make_empty(tree: str) -> None:
    subvolume.create(tree)
    os.chmod(tree, _ROOT_MODE)


def _dispose(directory: str) -> None:
    """Delete the subvolume in a snapshot's directory, which is about to be deleted."""
    tree = os.path.join(directory, _TREE)
    with _named(f"cannot delete subvolume {tree!r}"):
        subvolume.delete(tree)


def _refuse_id_map(key: str, labels: Labels) -> None:
    if id_mapping(labels):
        raise Unimplemented(
            f"snapshot {key!r}: this backend does not map ids; leave the id map labels out"
        )


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, what) from error
