"""Records and directories of a backend on disk, joined so that no ritual can be got wrong.

A backend has one `DiskStore` (it does not inherit it), adds how its snapshots are made and
mounted, and passes the rest on:

    self._disk = DiskStore(root)
    …
    with self._disk.creating(Kind.ACTIVE, key, parent, labels) as draft:
        make_root(os.path.join(draft.directory, "fs"))
    …
    return self._disk.remove(key, checkpoint).info

Who keeps other things than directories takes `MetaStore` alone.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from typing import Final

from snapcore.errors import SnapcoreError
from snapcore.snapshots.dirs import Dispose, Draft, SnapshotDirs, creating
from snapcore.snapshots.flush import flush_store
from snapcore.snapshots.hookspecs import Checkpoint
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.records import Record
from snapcore.snapshots.types import FlushReport, Kind, Labels, Reclaimed


class DiskStore:
    """The records and the directories below one state root.

    Args:
        root: the state root; made with mode 0700 if it is missing.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
        token: as for `MetaStore`.
        dispose: as for `SnapshotDirs`.

    Attributes:
        root: absolute path of the state root.
        records: keys, kinds, parents, labels and usage.

    Raises:
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_dirs", "_sync_remove", "records", "root")

    def __init__(
        self,
        root: str,
        *,
        sync_remove: bool = False,
        token: str | None = None,
        dispose: Dispose | None = None,
    ) -> None:
        self.root: Final = os.path.abspath(root)
        self._sync_remove = sync_remove
        self.records: Final = MetaStore(self.root, token=token)
        try:
            self._dirs = SnapshotDirs(self.root, dispose)
        except BaseException:
            self.records.close()
            raise

    def path(self, snapshot_id: int, *parts: str) -> str:
        """Return the absolute path of a snapshot's directory, or of something in it."""
        return os.path.join(self._dirs.path(snapshot_id), *parts)

    def creating(
        self, kind: Kind, key: str, parent: str, labels: Labels
    ) -> AbstractContextManager[Draft]:
        """Create a snapshot: the block fills the directory; then it is there, or nothing is.

        Raises:
            InvalidArgument, NotFound, DataLoss, AlreadyExists: in the order that
                `SnapshotterSpec.prepare` states.
            SnapcoreError: a directory could not be made.
        """
        return creating(self.records, self._dirs, kind, key, parent, labels)

    def remove(self, key: str, checkpoint: Checkpoint) -> Record:
        """Remove a snapshot of any kind and return what it was.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it has children.
        """
        record = self.records.remove(key)
        # From here on the snapshot is gone, whatever happens to its files: cleanup finds them.
        with suppress(SnapcoreError):
            self._dirs.retire(record.id)
            if self._sync_remove:
                self._dirs.delete(record.id, checkpoint)
        return record

    def flush(self) -> FlushReport:
        """Put everything acknowledged on disk before returning.

        Raises:
            DataLoss: writing failed.
        """
        return flush_store(self.records)

    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """Finish removals and delete what crashed owners left behind.

        Raises:
            SnapcoreError: something could not be deleted; all the rest was tried.
        """
        return self._dirs.sweep(self.records, checkpoint)

    def close(self) -> bool:
        """Release what the instance holds; True if it was open."""
        return self.records.close()
