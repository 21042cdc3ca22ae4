"""When a long-running node collects: after deletions, after changes, in time, and not too often.

The words are those of containerd's scheduler (its garbage collection guide), which also lets a
collection wait a little, so that many deletions are one collection, and bounds the share of time
that collections take.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import trio

from snapcore.errors import InvalidArgument, SnapcoreError
from snapcore.gc.values import Report

_DOUBLINGS: Final = 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to collect. All times are in seconds.

    Attributes:
        deletions: after so many deletions; 0 for never because of them.
        mutations: after so many changes of any kind; 0 for never because of them.
        period: after so long without a collection, whatever happened; also finds what other
            processes did.
        startup: not before so long after the beginning.
        delay: so long after there is a reason, so that what comes with it is collected at once.
        pause: largest share of time that collections may take, above 0 and at most 1.
        backoff: shortest time between a failure and the next try; it doubles with each failure
            in a row, up to `period`.
    """

    deletions: int = 1
    mutations: int = 100
    period: float = 3600.0
    startup: float = 0.1
    delay: float = 1.0
    pause: float = 0.02
    backoff: float = 5.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidArgument: one is out of range.
        """
        if not 0 < self.pause <= 1:
            raise InvalidArgument(f"a pause share of {self.pause!r} is none (want 0 < pause <= 1)")
        numbers = (self.deletions, self.mutations, self.startup, self.delay)
        if min(numbers) < 0 or min(self.period, self.backoff) <= 0:
            raise InvalidArgument(f"a schedule with negative times or counts: {self!r}")


class Scheduler:
    """Collects again and again, in one task, when there is a reason to.

    Args:
        collect: does one collection.
        schedule: when.
    """

    def __init__(self, collect: Callable[[], Awaitable[Report]], schedule: Schedule) -> None:
        self._collect: Final = collect
        self._schedule: Final = schedule
        self._deletions = 0
        self._mutations = 0
        self._failures = 0
        self._reason = trio.Event()
        self.last: Report | None = None

    def deleted(self, count: int = 1) -> None:
        """Say that images, leases or snapshots were deleted. Call it in the trio thread."""
        self._deletions += count
        self._look()

    def changed(self, count: int = 1) -> None:
        """Say that something was made or changed. Call it in the trio thread."""
        self._mutations += count
        self._look()

    async def run(self) -> NoReturn:
        """Collect until cancelled. A collection that fails is logged and tried again later."""
        await trio.sleep(self._schedule.startup)
        while True:
            with trio.move_on_after(self._schedule.period):
                await self._reason.wait()
                await trio.sleep(self._schedule.delay)
            await trio.sleep(await self._collect_once())

    async def _collect_once(self) -> float:
        """Collect, and return how long to rest afterwards, in seconds."""
        # What comes while it runs may have come too late for it, and is a reason for the next.
        self._deletions = self._mutations = 0
        self._reason = trio.Event()
        begun = trio.current_time()
        try:
            self.last = await self._collect()
        except SnapcoreError as error:
            self._failures += 1
            times: float = 2.0 ** min(self._failures - 1, _DOUBLINGS)
            rest = min(self._schedule.backoff * times, self._schedule.period)
            _log.warning("collecting garbage failed; next try in %.0f s: %s", rest, error)
            self._reason.set()
            return rest
        self._failures = 0
        took = trio.current_time() - begun
        return took / self._schedule.pause - took

    def _look(self) -> None:
        wanted = (self._schedule.deletions, self._schedule.mutations)
        seen = (self._deletions, self._mutations)
        if any(limit and count >= limit for limit, count in zip(wanted, seen, strict=True)):
            self._reason.set()
