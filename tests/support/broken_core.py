"""Faces of a snapshotter that leave to the backend what core does before it is asked.

No backend can get this wrong: the face refuses before. The checks are for faces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snapcore.snapshots import Info, Snapshotter, SnapshotterSpec


class ClosesAgainAndAgain(Snapshotter):
    """Each close finds something to close."""

    __slots__ = ()

    def close(self) -> bool:
        super().close()
        return True


class ServesWhenClosed(Snapshotter):
    """A closed snapshotter answers."""

    __slots__ = ()

    def _ready(self) -> SnapshotterSpec:
        return self._hooks


class WalksByBadFilters(Snapshotter):
    """Nothing passes a filter that does not parse."""

    __slots__ = ()

    def walk(self, filters: Sequence[str] = (), *, page: int = 500) -> Iterator[Info]:
        del filters, page
        return iter(())
