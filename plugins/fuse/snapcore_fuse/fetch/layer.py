"""The bytes of one layer: from the cache, or fetched with whatever else is wanted nearby."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from snapcore.errors import DataLoss, InvalidArgument, SnapcoreError, Unavailable
from snapcore.oci import Digest
from snapcore_fuse.cache import ChunkCache, ChunkKey
from snapcore_fuse.fetch.ahead import ReadAhead
from snapcore_fuse.fetch.slots import Slots, Ticket
from snapcore_fuse.fetch.tally import Tally
from snapcore_fuse.fetch.types import BlobSource, FetchOptions, LayerStatus, Priority
from snapcore_fuse.formats import BlobRange, LayerReader, Piece

_LOG: Final = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Want:
    """A piece that is on its way, and how that ended."""

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


class LayerData:
    """Reads a layer's stream. For one trio run; not thread-safe.

    Each piece is fetched once, however many wait for it; who gives up waiting does not end the
    fetch. Pieces that are queued at the same time and lie close together become one request
    when their turn comes.

    Args:
        digest: of the layer's blob.
        index: digest of what the reader was made from.
        reader: decodes pieces.
        source: the blob.
        cache: decoded pieces of all layers.
        slots: of the blob's registry.
        nursery: fetches run in it.
        decoders: counts the threads that decode.
        options: see `FetchOptions`.
    """

    def __init__(
        self,
        digest: Digest,
        index: Digest,
        reader: LayerReader,
        source: BlobSource,
        cache: ChunkCache,
        *,
        slots: Slots,
        nursery: trio.Nursery,
        decoders: trio.CapacityLimiter | None = None,
        options: FetchOptions | None = None,
    ) -> None:
        self.digest: Final = digest
        self.tally: Final = Tally()
        self._index: Final = index
        self._reader: Final = reader
        self._source = source
        self._cache: Final = cache
        self._slots: Final = slots
        self._nursery: Final = nursery
        self._decoders: Final = decoders or trio.CapacityLimiter(2)
        self._options: Final = options or FetchOptions()
        self._ahead: Final = ReadAhead(self._options.read_ahead)
        self._wants: Final[dict[int, _Want]] = {}
        self._queued: Final[dict[int, _Want]] = {}

    async def read(self, start: int, size: int, priority: Priority = Priority.BLOCKED) -> bytes:
        """Return bytes of the stream.

        Args:
            start: offset of the first.
            size: how many.
            priority: how urgent it is.

        Returns:
            Exactly `size` bytes, verified.

        Raises:
            InvalidArgument: they are not within the stream.
            DataLoss: what is served is not the layer, whoever is asked.
            NotFound, PermissionDenied: as the source.
            Unavailable: they did not come within the deadline, or the source says so.
        """
        if start < 0 or size < 0 or start + size > self._reader.size:
            raise InvalidArgument(f"no {size} bytes at {start} in layer {str(self.digest)!r}")
        with trio.move_on_after(self._options.deadline):
            data = await self._gather(start, size, priority)
            self.tally.served += size
            return data
        raise Unavailable(
            f"{size} bytes of layer {str(self.digest)!r} did not come within"
            f" {self._options.deadline:.0f} s{self._because()}"
        )

    async def prefetch(self, blob_bytes: int) -> None:
        """Fetch the pieces that lie within the first bytes of the blob, and return when they came.

        What fails is left to the reads that need it.
        """
        wants = []
        for number in range(self._reader.count):
            piece = self._reader.piece(number)
            if piece.blob.offset >= blob_bytes:
                break
            if not self._cached(piece):
                wants.append(self._want(piece, Priority.PREFETCH))
        for want in wants:
            await want.done.wait()

    def use(self, source: BlobSource) -> None:
        """Read from now on from a whole blob on this host."""
        self._source = source
        self.tally.complete = True

    def status(self) -> LayerStatus:
        """Return what was done so far."""
        return self.tally.status()

    async def _gather(self, start: int, size: int, priority: Priority) -> bytes:
        parts: list[bytes | tuple[_Want, bool]] = []
        pieces = list(self._reader.pieces(start, size))
        for piece in pieces:
            first, last = _overlap(piece, start, size)
            found = self._cache.get(self._key(piece), first, last - first)
            if found is None:
                self.tally.misses += 1
                joined = piece.number in self._wants
                parts.append((self._want(piece, priority), joined))
            else:
                self.tally.hits += 1
                parts.append(found)
        if priority is Priority.BLOCKED:
            self._fetch_ahead(start, size)
        whole = []
        for piece, part in zip(pieces, parts, strict=True):
            if isinstance(part, bytes):
                whole.append(part)
            else:
                first, last = _overlap(piece, start, size)
                whole.append((await self._wait(*part, priority))[first:last])
        return b"".join(whole)

    async def _wait(self, want: _Want, joined: bool, priority: Priority) -> bytes:
        await want.done.wait()
        if want.data is None and joined:
            # It began before we came, and may have failed of what is over by now.
            want = self._want(want.piece, priority)
            await want.done.wait()
        if want.data is None:
            assert want.error is not None
            # A fresh one for each who waits: tracebacks grow when one is raised twice.
            raise type(want.error)(str(want.error)) from want.error
        return want.data

    def _fetch_ahead(self, start: int, size: int) -> None:
        first, last = self._ahead.note(start, size)
        last = min(last, self._reader.size)
        if first < last:
            for piece in self._reader.pieces(first, last - first):
                if not self._cached(piece):
                    self._want(piece, Priority.PREFETCH)

    def _want(self, piece: Piece, priority: Priority) -> _Want:
        want = self._wants.get(piece.number)
        if want is not None and want.error is None:
            self._slots.hurry(want.ticket, priority)
            return want
        want = _Want(piece, Ticket(priority))
        self._wants[piece.number] = self._queued[piece.number] = want
        self._nursery.start_soon(self._fetch, want.ticket)
        return want

    async def _fetch(self, ticket: Ticket) -> None:
        """Wait for a slot, then fetch what is wanted most with what is queued around it."""
        batch: list[_Want] = []
        try:
            await self._slots.acquire(ticket)
            try:
                batch = self._take_batch(ticket)
                if not batch:
                    return
                blob, data = await self._request(batch, ticket.priority)
            finally:
                self._slots.release(ticket)
            async with trio.open_nursery() as nursery:
                for item in batch:
                    nursery.start_soon(self._deliver, item, blob, data)
        except SnapcoreError as error:
            self._give_up(batch, error)
        finally:
            # Nobody waits here any more but when the whole nursery was cancelled.
            for item in batch or self._holders(ticket):
                item.fail(Unavailable(f"fetching of layer {str(self.digest)!r} was stopped"))
                for table in (self._wants, self._queued):
                    if table.get(item.piece.number) is item:
                        del table[item.piece.number]

    def _holders(self, ticket: Ticket) -> list[_Want]:
        """Return the queued piece that has this ticket; none if another's request took it along."""
        return [want for want in self._queued.values() if want.ticket is ticket]

    def _take_batch(self, ticket: Ticket) -> list[_Want]:
        """Take out of the queue what is wanted most, and its neighbours."""
        holders = self._holders(ticket)
        if not holders:
            return []
        # Not the holder itself: in order of the queue, so that requests do not get in splinters.
        want = min(self._queued.values(), key=lambda item: item.ticket.priority)
        holders[0].ticket, want.ticket = want.ticket, ticket
        numbers = sorted(self._queued)
        at = numbers.index(want.piece.number)
        batch, blob = [want], want.piece.blob
        for side in (numbers[at + 1 :], reversed(numbers[:at])):
            for number in side:
                item = self._queued[number]
                joined = _joined(blob, item.piece.blob, self._options.gap)
                urgent = item.ticket.priority <= ticket.priority
                most = self._options.request if urgent else self._options.ride
                if joined is None or joined.size > most:
                    break
                batch.append(item)
                blob = joined
        for item in batch:
            del self._queued[item.piece.number]
        return batch

    async def _request(self, batch: list[_Want], priority: Priority) -> tuple[BlobRange, bytes]:
        ranges = sorted((item.piece.blob for item in batch), key=lambda blob: blob.offset)
        first, end, used = ranges[0].offset, ranges[0].offset, 0
        for blob in ranges:
            used += max(blob.end - max(blob.offset, end), 0)
            end = max(end, blob.end)
        wanted = BlobRange(first, end - first)
        self.tally.requests += 1
        data = await self._source.read(wanted, priority)
        self.tally.came(len(data), used)
        return wanted, data

    async def _deliver(self, want: _Want, blob: BlobRange, data: bytes) -> None:
        piece = want.piece
        at = piece.blob.offset - blob.offset
        try:
            try:
                plain = await self._decode(piece, data[at : at + piece.blob.size])
            except DataLoss as error:
                _LOG.warning("%s; asking once more", error)
                plain = await self._ask_again(want)
        except SnapcoreError as error:
            self._give_up([want], error)
            return
        want.finish(plain)
        # Until it is in the cache, whoever wants it finds it here.
        await trio.to_thread.run_sync(self._cache.put, self._key(piece), plain)

    async def _ask_again(self, want: _Want) -> bytes:
        """Fetch a piece whose bytes proved wrong once more, from somebody else if possible."""
        blob = want.piece.blob
        self.tally.wasted += blob.size
        self._source.distrust()
        ticket = Ticket(want.ticket.priority)
        await self._slots.acquire(ticket)
        try:
            self.tally.requests += 1
            data = await self._source.read(blob, ticket.priority)
        finally:
            self._slots.release(ticket)
        self.tally.came(len(data), len(data))
        return await self._decode(want.piece, data)

    async def _decode(self, piece: Piece, data: bytes) -> bytes:
        work = partial(self._decoded, piece, data)
        return await trio.to_thread.run_sync(work, limiter=self._decoders)

    def _decoded(self, piece: Piece, data: bytes) -> bytes:
        try:
            return self._reader.decode(piece, data)
        except SnapcoreError:
            raise
        except Exception as error:
            # A reader's mistake must cost one read, not every mount of the daemon.
            _LOG.exception("piece %d of layer %s", piece.number, self.digest)
            raise DataLoss(
                f"piece {piece.number} of layer {str(self.digest)!r}: {error}"
            ) from error

    def _give_up(self, batch: list[_Want], error: SnapcoreError) -> None:
        self.tally.failed(error)
        for item in batch:
            item.fail(error)

    def _cached(self, piece: Piece) -> bool:
        return self._key(piece) in self._cache

    def _key(self, piece: Piece) -> ChunkKey:
        return ChunkKey(self.digest, self._index, piece.number)

    def _because(self) -> str:
        return f"; the last failure was: {self.tally.last_error}" if self.tally.last_error else ""


def _overlap(piece: Piece, start: int, size: int) -> tuple[int, int]:
    """Return which bytes of a piece lie in a stretch of the stream: the first, and the end."""
    return max(start - piece.start, 0), min(start + size - piece.start, piece.size)


def _joined(one: BlobRange, other: BlobRange, gap: int) -> BlobRange | None:
    """Return the range that covers two, None if they lie farther apart than `gap`."""
    first, end = min(one.offset, other.offset), max(one.end, other.end)
    if end - first > one.size + other.size + gap:
        return None
    return BlobRange(first, end - first)
