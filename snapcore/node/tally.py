"""How much disk a pull takes at its worst moment."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from snapcore.oci import Digest
from snapcore.snapshots import Snapshotter
from snapcore.unpack import Event, Events, FetchDone, FetchProgress, LayerDone


class DiskTally:
    """A listener that counts bytes of blobs and snapshots, and passes every event on.

    What another pull brought is not counted, nor a layer before it is committed.
    """

    def __init__(self, snapshotters: Iterable[Snapshotter], events: Events) -> None:
        """Count for a pull into these snapshotters."""
        self._snapshotters: Final[Mapping[str, Snapshotter]] = {s.name: s for s in snapshotters}
        self._events: Final = events
        self._lock: Final = threading.Lock()
        self._blobs: Final[dict[Digest, int]] = {}
        self._snapshots = 0
        self._peak = 0

    @property
    def peak(self) -> int:
        """The most bytes that were on disk at a time."""
        return self._peak

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        match event:
            case FetchProgress(blob, offset):
                self._blob(blob.digest, offset)
            case FetchDone(blob, cached) if not cached:
                self._blob(blob.digest, blob.size)
            case LayerDone(_, name, chain_id, how) if how != "exists":
                self._snapshot(self._snapshotters[name].usage(chain_id).size)
            case _:
                pass
        self._events(event)

    def _blob(self, digest: Digest, size: int) -> None:
        with self._lock:
            self._blobs[digest] = size
            self._raise_peak()

    def _snapshot(self, size: int) -> None:
        with self._lock:
            self._snapshots += size
            self._raise_peak()

    def _raise_peak(self) -> None:
        self._peak = max(self._peak, sum(self._blobs.values()) + self._snapshots)
