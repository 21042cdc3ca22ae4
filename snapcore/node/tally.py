"""How much disk a pull takes at its worst moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from snapcore.oci import Digest
from snapcore.snapshots import Snapshotter
from snapcore.unpack import Event, Events, FetchDone, LayerDone


class DiskTally:
    """A listener that counts bytes of blobs and snapshots, and passes every event on.

    A pull takes nothing away, so what it has brought in the end is its peak. What another pull
    brought is not counted, nor a layer that was not committed.
    """

    def __init__(self, snapshotters: Iterable[Snapshotter], events: Events) -> None:
        """Count for a pull into these snapshotters."""
        self._snapshotters: Final[Mapping[str, Snapshotter]] = {s.name: s for s in snapshotters}
        self._events: Final = events
        self._blobs: Final[dict[Digest, int]] = {}
        self._snapshots: Final[dict[tuple[str, str], int]] = {}

    @property
    def peak(self) -> int:
        """The most bytes that were on disk at a time."""
        return sum(self._blobs.values()) + sum(self._snapshots.values())

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        match event:
            case FetchDone(blob, cached) if not cached:
                self._blobs[blob.digest] = blob.size
            case LayerDone(_, name, chain_id, how) if how != "exists":
                self._snapshots[name, chain_id] = self._snapshotters[name].usage(chain_id).size
            case _:
                pass
        self._events(event)
