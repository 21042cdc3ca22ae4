"""The bytes of one layer: from the cache, or fetched with whatever else is wanted nearby."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
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
from snapcore_fuse.fetch.wants import Want, Wants, covering, portions
from snapcore_fuse.formats import BlobRange, LayerReader, Piece

_LOG: Final = logging.getLogger(__name__)


PORTION_BYTES: Final = 512 << 10
"""So much of the stream is decoded by one thread at a time: a hop for each piece costs more."""


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
        self._wants: Final = Wants(self._options, self._start, slots.hurry)

    async def read(
        self,
        start: int,
        size: int,
        priority: Priority = Priority.BLOCKED,
        file_end: int | None = None,
    ) -> bytes:
        """Return bytes of the stream.

        Args:
            start: offset of the first.
            size: how many.
            priority: how urgent it is.
            file_end: where the file ends that they are of; reading it in order fetches nothing
                behind it. None for the end of the stream.

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
            data = await self._gather(start, size, priority, file_end)
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
        numbered = map(self._reader.piece, range(self._reader.count))
        pieces = itertools.takewhile(lambda piece: piece.blob.offset < blob_bytes, numbered)
        for want in self._wants.add(self._absent(pieces), Priority.PREFETCH):
            await want.done.wait()

    def use(self, source: BlobSource) -> None:
        """Read from now on from a whole blob on this host."""
        self._source = source
        self.tally.complete = True

    def status(self) -> LayerStatus:
        """Return what was done so far."""
        return self.tally.status()

    async def _gather(
        self, start: int, size: int, priority: Priority, file_end: int | None
    ) -> bytes:
        parts: dict[int, bytes] = {}
        absent = []
        for piece in self._reader.pieces(start, size):
            first, last = _overlap(piece, start, size)
            found = self._cache.get(self._key(piece), first, last - first)
            if found is None:
                absent.append(piece)
            parts[piece.number] = found or b""
        self.tally.hits += len(parts) - len(absent)
        self.tally.misses += len(absent)
        known = {piece.number for piece in absent if piece.number in self._wants}
        wants = self._wants.add(absent, priority)
        if priority is Priority.BLOCKED:
            if absent and absent[-1].number not in known:
                self._wants.add(self._absent(self._behind(absent[-1])), Priority.PREFETCH)
            self._fetch_ahead(start, size, file_end)
        for want in wants:
            first, last = _overlap(want.piece, start, size)
            data = await self._wait(want, want.piece.number in known, priority)
            parts[want.piece.number] = data[first:last]
        return b"".join(parts.values())

    async def _wait(self, want: Want, joined: bool, priority: Priority) -> bytes:
        await want.done.wait()
        if want.data is None and joined:
            # It began before we came, and may have failed of what is over by now.
            (want,) = self._wants.add([want.piece], priority)
            await want.done.wait()
        if want.data is None:
            assert want.error is not None
            # A fresh one for each who waits: tracebacks grow when one is raised twice.
            raise type(want.error)(str(want.error)) from want.error
        return want.data

    def _fetch_ahead(self, start: int, size: int, file_end: int | None) -> None:
        end = self._reader.size
        first, last = self._ahead.note(start, size, end if file_end is None else file_end)
        last = min(last, end)
        if first < last:
            pieces = self._reader.pieces(first, last - first)
            self._wants.add(self._absent(pieces), Priority.PREFETCH)

    def _behind(self, piece: Piece) -> Iterator[Piece]:
        """Yield the pieces behind one that lie near enough to come along with it."""
        end = piece.blob.end + self._options.around
        for number in range(piece.number + 1, self._reader.count):
            following = self._reader.piece(number)
            if following.blob.end > end:
                return
            yield following

    def _absent(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        return (piece for piece in pieces if self._key(piece) not in self._cache)

    def _start(self, ticket: Ticket) -> None:
        self._nursery.start_soon(self._fetch, ticket)
        # At once, since tasks that begin together run in any order.
        self._slots.enqueue(ticket)

    async def _fetch(self, ticket: Ticket) -> None:
        """Wait for a slot, then fetch what the ticket stands for and what lies around it."""
        batch: list[Want] = []
        try:
            await self._slots.acquire(ticket)
            try:
                batch = self._wants.take(ticket)
                if not batch:
                    return
                blob, data = await self._request(batch, ticket.priority)
            finally:
                self._slots.release(ticket)
            async with trio.open_nursery() as nursery:
                for portion in portions(batch, PORTION_BYTES):
                    nursery.start_soon(self._deliver, portion, blob, data)
        except SnapcoreError as error:
            self._give_up(batch, error)
        finally:
            # Nobody waits here any more but when the whole nursery was cancelled.
            for want in batch or self._wants.take(ticket):
                want.fail(Unavailable(f"fetching of layer {str(self.digest)!r} was stopped"))
                self._wants.forget(want)

    async def _request(self, batch: list[Want], priority: Priority) -> tuple[BlobRange, bytes]:
        wanted = covering(batch)
        end, used = wanted.offset, 0
        for blob in sorted((want.piece.blob for want in batch), key=lambda blob: blob.offset):
            used += max(blob.end - max(blob.offset, end), 0)
            end = max(end, blob.end)
        self.tally.requests += 1
        data = await self._source.read(wanted, priority)
        self.tally.came(len(data), used)
        return wanted, data

    async def _deliver(self, portion: list[Want], blob: BlobRange, data: bytes) -> None:
        """Decode some of the pieces that came, hand them out, and put them into the cache."""
        decode = partial(self._decoded, portion, blob, data)
        results = await trio.to_thread.run_sync(decode, limiter=self._decoders)
        wrong = []
        for want, result in zip(portion, results, strict=True):
            if isinstance(result, bytes):
                want.finish(result)
            else:
                wrong.append((want, result))
        # Until they are in the cache, whoever wants them finds them here.
        await trio.to_thread.run_sync(self._keep, portion)
        for want, error in wrong:
            _LOG.warning("%s; asking once more", error)
            try:
                want.finish(await self._ask_again(want))
            except SnapcoreError as final:
                self._give_up([want], final)
        await trio.to_thread.run_sync(self._keep, [want for want, _ in wrong])

    async def _ask_again(self, want: Want) -> bytes:
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
        decode = partial(self._decoded, [want], blob, data)
        (result,) = await trio.to_thread.run_sync(decode, limiter=self._decoders)
        if isinstance(result, bytes):
            return result
        raise result

    def _decoded(
        self, portion: list[Want], blob: BlobRange, data: bytes
    ) -> list[bytes | SnapcoreError]:
        results: list[bytes | SnapcoreError] = []
        for want in portion:
            piece = want.piece
            at = piece.blob.offset - blob.offset
            try:
                results.append(self._reader.decode(piece, data[at : at + piece.blob.size]))
            except SnapcoreError as error:
                results.append(error)
            except Exception as error:  # noqa: BLE001 - a reader's mistake costs one read
                what = f"piece {piece.number} of layer {str(self.digest)!r}"
                _LOG.exception("cannot decode %s", what)
                results.append(DataLoss(f"{what}: {error}"))
        return results

    def _keep(self, portion: list[Want]) -> None:
        for want in portion:
            if want.data is not None:
                self._cache.put(self._key(want.piece), want.data)

    def _give_up(self, batch: list[Want], error: SnapcoreError) -> None:
        self.tally.failed(error)
        for want in batch:
            want.fail(error)

    def _key(self, piece: Piece) -> ChunkKey:
        return ChunkKey(self.digest, self._index, piece.number)

    def _because(self) -> str:
        return f"; the last failure was: {self.tally.last_error}" if self.tally.last_error else ""


def _overlap(piece: Piece, start: int, size: int) -> tuple[int, int]:
    """Return which bytes of a piece lie in a stretch of the stream: the first, and the end."""
    return max(start - piece.start, 0), min(start + size - piece.start, piece.size)
