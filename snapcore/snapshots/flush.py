"""Making a state root durable."""

from __future__ import annotations

from contextlib import suppress

from snapcore.errors import DataLoss, SnapcoreError
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.types import FlushReport


def flush_store(store: MetaStore) -> FlushReport:
    """Be the `flush` hook of a backend that keeps its records in a MetaStore.

    Raises:
        DataLoss: writing failed; everything that was not durable is broken now.
        SnapcoreError: the records cannot be used.
    """
    # Asked before the sync: what is committed while it runs may not be covered by it.
    pending = store.pending()
    try:
        store.medium.sync()
    except DataLoss:
        # Where even that cannot be written, the facade still refuses, and the next boot drops it.
        with suppress(SnapcoreError):
            store.break_pending()
        raise
    return FlushReport(synced=1, made_durable=store.mark_durable(pending))
