"""Pieces that are wanted and not here yet, and which of them go into one request."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from snapcore.errors import SnapcoreError
from snapcore_fuse.fetch.slots import Ticket
from snapcore_fuse.fetch.types import FetchOptions, Priority
from snapcore_fuse.formats import BlobRange, Piece


@dataclass(eq=False, slots=True)
class Want:
    """A piece that is on its way, and how that ended.

    Attributes:
        piece: which.
        ticket: of the request that is to bring it.
        done: set when there is data or an error.
        data: its bytes.
        error: why there are none.
    """

    piece: Piece
    ticket: Ticket
    done: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    error: SnapcoreError | None = None

    def finish(self, data: bytes) -> None:
        """Hand the bytes to everybody who waits."""
        self.data = data
        self.done.set()

    def fail(self, error: SnapcoreError) -> None:
        """Hand an error to everybody who waits, unless they have the bytes."""
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Wants:
    """All wants of one layer, each piece once. A group of neighbours has one ticket.

    Args:
        options: bounds of a request.
        start: begins to wait with a ticket; calls `take` when it is granted, then `forget`.
        hurry: raises the priority of a ticket.
    """

    def __init__(
        self,
        options: FetchOptions,
        start: Callable[[Ticket], None],
        hurry: Callable[[Ticket, Priority], None],
    ) -> None:
        self._options: Final = options
        self._start: Final = start
        self._hurry: Final = hurry
        self._all: Final[dict[int, Want]] = {}
        self._queued: Final[list[int]] = []
        self._groups: Final[dict[Ticket, list[Want]]] = {}

    def __contains__(self, number: int) -> bool:
        """Tell whether a piece is on its way."""
        want = self._all.get(number)
        return want is not None and want.error is None

    def add(self, pieces: Iterable[Piece], priority: Priority) -> list[Want]:
        """Return a want for each piece, in ascending order, new or known."""
        wants: list[Want] = []
        ticket, covered = Ticket(priority), None
        for piece in pieces:
            want = self._all.get(piece.number)
            if want is not None and want.error is None:
                self._raise(want, priority)
            else:
                joined = covered and _joined(covered, piece.blob, self._options.gap)
                if joined is None or joined.size > self._options.request:
                    ticket, joined = Ticket(priority), piece.blob
                covered = joined
                want = self._all[piece.number] = Want(piece, ticket)
                insort(self._queued, piece.number)
                self._groups.setdefault(ticket, []).append(want)
                if self._groups[ticket] == [want]:
                    self._start(ticket)
            wants.append(want)
        return wants

    def take(self, ticket: Ticket) -> list[Want]:
        """Take out of the queue what a granted ticket stands for, and its neighbours.

        Of those who are not as urgent only a few come along, lest somebody waits for them.

        Returns:
            Wants, ascending by their pieces; none if other requests took them all.
        """
        group = [want for want in self._groups.pop(ticket, ()) if self._is_queued(want, ticket)]
        if not group:
            return []
        batch = self._first_run(group)
        blob = covering(batch)
        at = bisect_left(self._queued, batch[0].piece.number)
        for side in (self._queued[at:], self._queued[:at][::-1]):
            for number in side:
                want = self._all[number]
                if want.ticket is ticket:
                    continue
                joined = _joined(blob, want.piece.blob, self._options.gap)
                urgent = want.ticket.priority <= ticket.priority
                most = self._options.request if urgent else self._options.ride
                if joined is None or joined.size > max(most, blob.size):
                    break
                batch.append(want)
                blob = joined
        for want in batch:
            del self._queued[bisect_left(self._queued, want.piece.number)]
        return sorted(batch, key=lambda want: want.piece.number)

    def forget(self, want: Want) -> None:
        """Let go of a want that was taken and is done."""
        if self._all.get(want.piece.number) is want:
            del self._all[want.piece.number]

    def _first_run(self, group: list[Want]) -> list[Want]:
        """Return a group up to where others took something out; the rest gets a ticket anew."""
        blob = group[0].piece.blob
        for at, want in enumerate(group):
            joined = _joined(blob, want.piece.blob, self._options.gap)
            if joined is None:
                ticket = Ticket(want.ticket.priority)
                for left in group[at:]:
                    left.ticket = ticket
                self._groups[ticket] = group[at:]
                self._start(ticket)
                return group[:at]
            blob = joined
        return group

    def _raise(self, want: Want, priority: Priority) -> None:
        if priority >= want.ticket.priority:
            return
        if not self._is_queued(want, want.ticket):
            self._hurry(want.ticket, priority)
            return
        # Its group stays where it is in the queue.
        want.ticket = Ticket(priority)
        self._groups[want.ticket] = [want]
        self._start(want.ticket)

    def _is_queued(self, want: Want, ticket: Ticket) -> bool:
        number = want.piece.number
        at = bisect_left(self._queued, number)
        known = self._all.get(number) is want and want.ticket is ticket
        return known and self._queued[at : at + 1] == [number]


def covering(wants: Sequence[Want]) -> BlobRange:
    """Return the range of the blob that holds all of some pieces."""
    first = min(want.piece.blob.offset for want in wants)
    return BlobRange(first, max(want.piece.blob.end for want in wants) - first)


def portions(batch: Sequence[Want], size: int) -> Iterator[list[Want]]:
    """Yield wants in portions of up to `size` bytes of the stream, the urgent ones first."""
    portion: list[Want] = []
    held = 0
    for want in sorted(batch, key=lambda want: (want.ticket.priority, want.piece.number)):
        if portion and held + want.piece.size > size:
            yield portion
            portion, held = [], 0
        portion.append(want)
        held += want.piece.size
    if portion:
        yield portion


def _joined(one: BlobRange, other: BlobRange, gap: int) -> BlobRange | None:
    """Return the range that covers two, None if they lie farther apart than `gap`."""
    first, end = min(one.offset, other.offset), max(one.end, other.end)
    if end - first > one.size + other.size + gap:
        return None
    return BlobRange(first, end - first)
