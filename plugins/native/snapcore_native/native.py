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
from contextlib import suppress
from typing import Final

from snapcore.errors import SnapcoreError, Unimplemented, from_os_error
from snapcore.mount import Mount
from snapcore.snapshots import (
    Checkpoint,
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    MetaStore,
    Mounts,
    Page,
    Reclaimed,
    SnapshotDirs,
    Usage,
    creating,
    flush_store,
    hookimpl,
)
from snapcore_native.copy import copy_tree
from snapcore_native.stamp import read_stamp, write_stamp
from snapcore_native.usage import measure

_TREE: Final = "fs"
_STAMP: Final = "copied"
_SPARE: Final = "links"
_ROOT_MODE: Final = 0o755
"""What the contract says; the state root above it is closed to others."""


class NativeSnapshotter:
    """The copying snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        sync_remove: delete files in `remove` already, not only in `cleanup`.

    Raises:
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_dirs", "_root", "_store", "_sync_remove")

    def __init__(self, root: str, *, sync_remove: bool = False) -> None:
        self._root: Final = os.path.abspath(root)
        self._sync_remove: Final = sync_remove
        self._store: Final = MetaStore(self._root)
        try:
            self._dirs: Final = SnapshotDirs(self._root)
        except SnapcoreError:
            self._store.close()
            raise

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        return self._store.stat(key)

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        return self._store.update(info, fieldpaths)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`. `delta` is what changed since the parent was copied."""
        record = self._store.get(key)
        if record.usage is not None:
            return record.usage
        if record.info.kind is Kind.VIEW and record.info.parent:
            return Usage(inodes=0, size=0, delta=0)
        return self._measure(record.id, checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind mount."""
        stack = self._store.stack(key)
        return self._mounts(stack.record.info.kind, stack.record.id, stack.parents)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`. Copies the whole parent."""
        with creating(self._store, self._dirs, Kind.ACTIVE, key, parent, labels) as draft:
            if draft.parents:
                self._copy(self._tree(draft.parents[0]), draft.directory, checkpoint)
            else:
                _make_root(draft.directory)
        return self._mounts(Kind.ACTIVE, draft.id, draft.parents)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`. Copies nothing."""
        checkpoint()
        with creating(self._store, self._dirs, Kind.VIEW, key, parent, labels) as draft:
            if not draft.parents:
                _make_root(draft.directory)
        return self._mounts(Kind.VIEW, draft.id, draft.parents)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the tree itself, deletions done for real."""
        return LayerTarget(self._tree(self._store.stack(key, Kind.ACTIVE).record.id))

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`.

        Raises:
            Unimplemented: it would have to be rebased; a copy cannot be.
        """
        plan = self._store.check_commit(name, key, parent)
        if parent and self._store.stat(key).parent != parent:
            raise Unimplemented(
                f"snapshot {key!r} cannot be rebased onto {parent!r}: native snapshots are copies;"
                " prepare it on that parent"
            )
        return self._store.commit(plan, labels, self._measure(plan.id, checkpoint))

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        record = self._store.remove(key)
        # From here on the snapshot is gone, whatever happens to its files: cleanup finds them.
        with suppress(SnapcoreError):
            self._dirs.retire(record.id)
            if self._sync_remove:
                self._dirs.delete(record.id, checkpoint)
        return record.info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._store.walk(filters, after, limit)

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`."""
        return flush_store(self._store)

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`."""
        return self._dirs.sweep(self._store, checkpoint)

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        return self._store.close()

    def _tree(self, number: int) -> str:
        return os.path.join(self._dirs.path(number), _TREE)

    def _mounts(self, kind: Kind, number: int, parents: tuple[int, ...]) -> Mounts:
        if kind is Kind.ACTIVE:
            return (_bind(self._tree(number), "rw"),)
        return (_bind(self._tree(parents[0] if parents else number), "ro"),)

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
        since = read_stamp(os.path.join(self._dirs.path(number), _STAMP))
        return measure(self._tree(number), since, checkpoint)


def _make_root(directory: str) -> None:
    path = os.path.join(directory, _TREE)
    try:
        os.mkdir(path)
        # A default ACL above the state root must not show in a snapshot (acl(5)).
        for name in os.listxattr(path):
            if name.startswith("system.posix_acl_"):
                os.removexattr(path, name)
        os.chmod(path, _ROOT_MODE)
    except OSError as error:
        raise from_os_error(error, f"root directory {path!r}") from error


def _bind(source: str, access: str) -> Mount:
    return Mount("bind", source, options=("rbind", access))
