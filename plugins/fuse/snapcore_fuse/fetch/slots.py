"""How many requests go to one registry at the same time, and whose turn it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from snapcore_fuse.fetch.types import Priority

_MIN_POLL: Final = 0.05
_T = TypeVar("_T")


class Ticket:
    """One request's place in the queue."""

    __slots__ = ("_granted", "priority")

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self._granted: Final = trio.Event()

    @property
    def granted(self) -> bool:
        """Whether it is its turn."""
        return self._granted.is_set()

    def grant(self) -> None:
        """Let it go."""
        self._granted.set()

    async def wait(self) -> None:
        """Wait for its turn."""
        await self._granted.wait()


class Slots:
    """Hands out the right to make a request. For one trio run; not thread-safe.

    A blocked read is first; one slot is never given to anything else. Background work begins
    only after a while without blocked reads, and stops when one comes.

    Args:
        total: requests at the same time; at most what the registry client lets through, or a
            blocked read waits there behind others.
        background: of them, at most so many for background work.
        quiet: seconds without a blocked read until background work goes on.
    """

    def __init__(self, total: int = 4, background: int = 2, quiet: float = 1.0) -> None:
        self._total: Final = total
        self._background: Final = background
        self._quiet: Final = quiet
        self._waiting: Final[list[Ticket]] = []
        self._running: Final[list[Ticket]] = []
        self._stoppable: Final[set[trio.CancelScope]] = set()
        self._quiet_since = float("-inf")

    def enqueue(self, ticket: Ticket) -> None:
        """Take a place in the queue, for an `acquire` that follows for certain."""
        self._waiting.append(ticket)

    async def acquire(self, ticket: Ticket) -> None:
        """Wait for a slot; `release` gives it back."""
        if not ticket.granted and ticket not in self._waiting:
            self._waiting.append(ticket)
        self._changed()
        try:
            await trio.lowlevel.checkpoint()
            while not ticket.granted:
                # Background work is also waiting for time to pass.
                with trio.move_on_after(max(self._quiet, _MIN_POLL)):
                    await ticket.wait()
                self._grant()
        except BaseException:
            self.release(ticket)
            raise

    def release(self, ticket: Ticket) -> None:
        """Give a slot back, or the place in the queue."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        else:
            self._running.remove(ticket)
            if ticket.priority is Priority.BLOCKED:
                self._quiet_since = trio.current_time()
        self._grant()

    def hurry(self, ticket: Ticket, priority: Priority) -> None:
        """Raise the priority of a request, whether it waits or runs."""
        if priority < ticket.priority:
            ticket.priority = priority
            self._changed()

    async def run_in_background(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await `work()` in a slot for background work and return its result.

        It is cancelled when a blocked read comes, and then begun anew in its turn.
        """
        while True:
            ticket = Ticket(Priority.BACKGROUND)
            await self.acquire(ticket)
            try:
                with trio.CancelScope() as scope:
                    self._stoppable.add(scope)
                    return await work()
            finally:
                self._stoppable.discard(scope)
                self.release(ticket)

    def _changed(self) -> None:
        tickets = (*self._waiting, *self._running)
        if any(ticket.priority is Priority.BLOCKED for ticket in tickets):
            for scope in self._stoppable:
                scope.cancel()
        self._grant()

    def _grant(self) -> None:
        for ticket in sorted(self._waiting, key=lambda ticket: ticket.priority):
            if not self._may_run(ticket.priority):
                return
            self._waiting.remove(ticket)
            self._running.append(ticket)
            ticket.grant()

    def _may_run(self, priority: Priority) -> bool:
        if priority is Priority.BLOCKED:
            return len(self._running) < self._total
        others = sum(ticket.priority is not Priority.BLOCKED for ticket in self._running)
        if len(self._running) >= self._total or others >= max(self._total - 1, 1):
            return False
        if priority is Priority.PREFETCH:
            return True
        busy = any(ticket.priority is Priority.BLOCKED for ticket in self._running)
        background = sum(ticket.priority is Priority.BACKGROUND for ticket in self._running)
        rested = trio.current_time() - self._quiet_since >= self._quiet
        return not busy and rested and background < self._background
