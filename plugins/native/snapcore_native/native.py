"""A snapshotter that copies: every snapshot is a whole directory tree of its own.

Works on any filesystem with symlinks, and without privilege as far as the layers' contents
allow. Below the state root:

    metadata.db             records
    snapshots/<id>/fs       the tree
    snapshots/<id>/copied   when its copy of the parent was complete (see `stamp`)

A copy is made between reservation and record, never inside a database transaction, so others
can work meanwhile; a copy that fails, is cancelled, or whose process dies leaves nothing that
cleanup would not delete. A View of a parent is a read-only bind mount of the parent's own
tree: nothing is copied.
"""

from __future__ import annotations

import os
from typing import Final

from snapcore.errors import Unimplemented, from_os_error
from snapcore.mount import IdMapping, Mount
from snapcore.snapshots import (
    Checkpoint,
    DiskStore,
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    Mounts,
    Page,
    Reclaimed,
    Usage,
    hookimpl,
    id_mapping,
    make_root,
    refuse_mapped,
)
from snapcore_native.copy import copy_tree
from snapcore_native.stamp import read_stamp, write_stamp
from snapcore_native.usage import measure

_TREE: Final = "fs"
_STAMP: Final = "copied"
_SPARE: Final = "links"


class NativeSnapshotter:
    """The copying snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
        remap_ids: whether mounts can show other ids here.

    Raises:
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_records", "_remap_ids")

    def __init__(self, root: str, *, sync_remove: bool = False, remap_ids: bool = False) -> None:
        self._remap_ids: Final = remap_ids
        self._disk: Final = DiskStore(root, sync_remove=sync_remove)
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
        """See `SnapshotterSpec.usage`. `delta` is what changed since the parent was copied."""
        record = self._records.get(key)
        if record.usage is not None:
            return record.usage
        if record.info.kind is Kind.VIEW and record.info.parent:
            return Usage(inodes=0, size=0, delta=0)
        return self._measure(record.id, checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind mount."""
        stack = self._records.stack(key)
        mapping = id_mapping(stack.record.info.labels)
        return self._mounts(stack.record.info.kind, stack.record.id, stack.parents, mapping)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`. Copies the whole parent."""
        mapping = id_mapping(labels)
        with self._disk.creating(Kind.ACTIVE, key, parent, labels) as draft:
            self._check_mapping(key, mapping)
            if draft.parents:
                self._copy(self._tree(draft.parents[0]), draft.directory, checkpoint)
            else:
                _make_tree(draft.directory)
        return self._mounts(Kind.ACTIVE, draft.id, draft.parents, mapping)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`. Copies nothing."""
        checkpoint()
        mapping = id_mapping(labels)
        with self._disk.creating(Kind.VIEW, key, parent, labels) as draft:
            self._check_mapping(key, mapping)
            if not draft.parents:
                _make_tree(draft.directory)
        return self._mounts(Kind.VIEW, draft.id, draft.parents, mapping)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the tree itself, deletions done for real."""
        record = self._records.stack(key, Kind.ACTIVE).record
        refuse_mapped(record.info)
        return LayerTarget(self._tree(record.id))

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`.

        Raises:
            Unimplemented: it would have to be rebased; a copy cannot be.
        """
        plan = self._records.check_commit(name, key, parent)
        if parent and self._records.stat(key).parent != parent:
            raise Unimplemented(
                f"snapshot {key!r} cannot be rebased onto {parent!r}: native snapshots are copies;"
                " prepare it on that parent"
            )
        return self._records.commit(plan, labels, self._measure(plan.id, checkpoint))

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

    def _mounts(
        self, kind: Kind, number: int, parents: tuple[int, ...], mapping: IdMapping | None
    ) -> Mounts:
        # Nothing is chowned: the kernel maps ids both ways.
        mapped = mapping.options if mapping else ()
        if kind is Kind.ACTIVE:
            return (Mount("bind", self._tree(number), options=("rbind", "rw", *mapped)),)
        tree = self._tree(parents[0] if parents else number)
        return (Mount("bind", tree, options=("rbind", "ro", *mapped)),)

    def _check_mapping(self, key: str, mapping: IdMapping | None) -> None:
        if mapping and not self._remap_ids:
            raise Unimplemented(
                f"snapshot {key!r}: ids cannot be mapped here (kernel, filesystem or user"
                " namespace); leave the id map labels out"
            )

    def _copy(self, source: str, directory: str, checkpoint: Checkpoint) -> None:
        target, spare = os.path.join(directory, _TREE), os.path.join(directory, _SPARE)
        try:
            os.mkdir(target, 0o700)
            os.mkdir(spare, 0o700)
            copy_tree(source, target, spare, checkpoint)
            os.rmdir(spare)
            write_stamp(os.path.join(directory, _STAMP), checkpoint)
        except OSError as error:
            raise from_os_error(error, f"copy of {source!r} to {directory!r}") from error

    def _measure(self, number: int, checkpoint: Checkpoint) -> Usage:
        since = read_stamp(self._disk.path(number, _STAMP))
        return measure(self._tree(number), since, checkpoint)


def _make_tree(directory: str) -> None:
    path = os.path.join(directory, _TREE)
    try:
        make_root(path)
    except OSError as error:
        raise from_os_error(error, f"root directory {path!r}") from error
