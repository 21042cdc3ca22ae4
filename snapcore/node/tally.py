"""How much disk a pull takes at its worst moment."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from snapcore.oci import Digest
from snapcore.snapshots import Snapshotter
from snapcore.unpack import BlobDiscarded, Event, Events, FetchDone, LayerDone


class DiskTally:
    """A listener that counts bytes of blobs and snapshots, and passes every event on.

    What another pull brought is not counted, nor a layer that was not committed.

    Attributes:
        peak: the most bytes that were on disk at a time.
    """

    def __init__(self, snapshotters: Iterable[Snapshotter], events: Events) -> None:
        """Count for a pull into these snapshotters."""
        self._snapshotters: Final[Mapping[str, Snapshotter]] = {s.name: s for s in snapshotters}
        self._events: Final = events
        self._guard: Final = threading.Lock()
        self._sizes: Final[dict[Digest | tuple[str, str], int]] = {}
        self._now = 0
        self.peak = 0

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        match event:
            case FetchDone(blob, cached) if not cached:
                self._count(blob.digest, blob.size)
            case BlobDiscarded(blob):
                self._count(blob.digest, 0)
            case LayerDone(_, name, chain_id, how) if how != "exists":
                self._count((name, chain_id), self._snapshotters[name].usage(chain_id).size)
            case _:
                pass
        self._events(event)

    def _count(self, thing: Digest | tuple[str, str], size: int) -> None:
        with self._guard:
            before = self._sizes.get(thing, 0)
            if size or before:
                self._sizes[thing] = size
                self._now += size - before
                self.peak = max(self.peak, self._now)
