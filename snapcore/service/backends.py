"""The snapshotters that are served: which one a request means, and one sync for many commits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from snapcore.errors import InvalidArgument
from snapcore.service.convert import check_count
from snapcore.service.names import PLUGIN_PREFIX
from snapcore.service.owner import shown
from snapcore.snapshots import Durability, Info, Snapshotter, State
from snapcore.snapshots.keys import updated_labels

_STRIPES: Final = 64


class GroupedFlush:
    """Makes commits durable: those that wait while a flush runs share the next one."""

    def __init__(self, snapshotter: Snapshotter) -> None:
        self._snapshotter = snapshotter
        self._turn = threading.Lock()
        self._begun = 0
        self._done = 0

    def cover(self, info: Info) -> None:
        """Return once a commit is on disk, unless durability is `none`.

        Raises:
            DataLoss: the sync failed; the snapshot is broken.
        """
        if info.state is not State.PENDING or self._snapshotter.durability is Durability.NONE:
            return
        # One that has begun already may have looked before this commit.
        wanted = self._begun + 1
        with self._turn:
            if self._done >= wanted:
                return
            self._begun += 1
            self._snapshotter.flush()
            self._done = self._begun


class Served:
    """One snapshotter that is served.

    Attributes:
        snapshotter: the backend.
        flush: makes what is committed in it durable.
    """

    def __init__(self, snapshotter: Snapshotter) -> None:
        self.snapshotter: Final = snapshotter
        self.flush: Final = GroupedFlush(snapshotter)
        self._updates = tuple(threading.Lock() for _ in range(_STRIPES))

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        """Change labels, such that the snapshot has no more of them than a request may give.

        Otherwise updates of single labels could make it larger than a message.

        Raises:
            InvalidArgument: it would have too many; or as `Snapshotter.update`.
        """
        # Of one snapshot one at a time; those of others wait for the database only.
        with self._updates[hash(info.name) % _STRIPES]:
            if paths:
                stored = self.snapshotter.stat(info.name)
                labels = updated_labels(stored.labels, info, tuple(paths))
                check_count(shown(replace(stored, labels=labels)).labels)
            return self.snapshotter.update(info, paths)


class Backends:
    """What one service serves."""

    def __init__(self, snapshotters: Sequence[Snapshotter]) -> None:
        self._served = {snapshotter.name: Served(snapshotter) for snapshotter in snapshotters}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that requests may choose by."""
        return tuple(self._served)

    def of(self, name: str) -> Served:
        """Return the backend that a request means; an only one answers to any name.

        Of several, each answers to its own name and to the one of `plugin_name`.

        Raises:
            InvalidArgument: there are several, and none of that name. Not NotFound: clients
                take that for a snapshot that is gone.
        """
        if len(self._served) == 1:
            return next(iter(self._served.values()))
        found = self._served.get(name) or self._served.get(name.removeprefix(PLUGIN_PREFIX))
        if found is None:
            known = ", ".join(sorted(self._served))
            raise InvalidArgument(f"snapshotter {name!r} is not served here; there are {known}")
        return found
