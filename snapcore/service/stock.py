"""What a snapshotter has in store, counted seldom enough to cost next to nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from snapcore.errors import NotFound, Unavailable
from snapcore.mount import mounts_using
from snapcore.snapshots import Kind, Snapshotter, Usage

_FRESH_SECONDS: Final = 5.0
_LONGEST_SHARE: Final = 20
"""A count is repeated after so many times as long as it took: 5 % of one processor at most."""
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Stock:
    """One count.

    Attributes:
        kinds: how many snapshots there are of each kind.
        usage: sum of what the backend stored when snapshots were committed.
        mounts: how many mounts show something of it in this mount namespace.
    """

    kinds: Mapping[Kind, int]
    usage: Usage
    mounts: int


class StockTaker:
    """Counts what one snapshotter has; safe for any number of threads.

    Args:
        snapshotter: whose.
        clock: seconds that only go forwards.
    """

    def __init__(
        self, snapshotter: Snapshotter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.snapshotter: Final = snapshotter
        self._clock = clock
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._last: Stock | None = None
        self._fresh_until = 0.0

    def stock(self) -> Stock:
        """Return the last count, or a new one if that is old; who comes meanwhile waits for it.

        Raises:
            SnapcoreError: the backend failed.
        """
        with self._turn:
            began = self._clock()
            if self._last is None or began >= self._fresh_until:
                self._last = self._count()
                ended = self._clock()
                self._fresh_until = ended + max(_FRESH_SECONDS, _LONGEST_SHARE * (ended - began))
            return self._last

    def stop(self) -> None:
        """End a count that is under way: it fails."""
        self._stopping.set()

    def _count(self) -> Stock:
        kinds = Counter[Kind]()
        size = inodes = 0
        for info in self.snapshotter.walk(page=_PAGE):
            if self._stopping.is_set():
                raise Unavailable("the service ends")
            kinds[info.kind] += 1
            # Of the others it would be a scan of their files.
            if info.kind is Kind.COMMITTED:
                with suppress(NotFound):
                    usage = self.snapshotter.usage(info.name)
                    size, inodes = size + usage.size, inodes + usage.inodes
        mounts = len(mounts_using(self.snapshotter.root))
        return Stock(kinds, Usage(inodes=inodes, size=size), mounts)
