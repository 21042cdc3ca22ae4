"""Making a state root durable."""

from __future__ import annotations

import os

from snapcore.errors import DataLoss, from_os_error
from snapcore.linux import syncfs
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.types import FlushReport


def sync_root(root: str) -> None:
    """Write out the filesystem that holds a state root, and wait.

    Raises:
        DataLoss: writing failed. What was pending is lost for what anybody knows: a second
            sync would report success without having written it (fsync(2), syncfs(2)).
        SnapcoreError: the root cannot be opened.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"snapshot root {root!r}") from error
    try:
        syncfs(descriptor)
    except OSError as error:
        raise DataLoss(
            f"what was written below {root!r} did not reach the disk: {error.strerror}; check"
            " the disk, then reopen"
        ) from error
    finally:
        os.close(descriptor)


def flush_store(store: MetaStore) -> FlushReport:
    """Be the `flush` hook of a backend that keeps its records in a MetaStore.

    Raises:
        DataLoss: writing failed.
        SnapcoreError: the root or the records cannot be used.
    """
    # Asked before the sync: what is committed while it runs may not be covered by it.
    pending = store.pending()
    sync_root(store.root)
    return FlushReport(synced=1, made_durable=store.mark_durable(pending))
