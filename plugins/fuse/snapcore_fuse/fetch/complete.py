"""From a layer of pieces to a whole, verified blob on this host, without haste."""

from __future__ import annotations

import os
from functools import partial
from typing import Final, Protocol

import trio

from snapcore.archive import Limits, open_stream
from snapcore.errors import DataLoss, RefusedInput
from snapcore.oci import Digest
from snapcore_fuse.fetch.slots import Slots
from snapcore_fuse.fetch.tally import Tally
from snapcore_fuse.fetch.types import BlobSource, Priority
from snapcore_fuse.formats import BlobRange, LayerSource

REQUEST_BYTES: Final = 2 << 20


class BlobSink(Protocol):
    """Where a whole blob goes. Its methods block and are called in worker threads."""

    @property
    def offset(self) -> int:
        """Bytes that are there already, from an earlier run too."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def open(self) -> int:
        """Return a descriptor that reads what is there from its beginning; the caller closes it."""

    def commit(self) -> None:
        """Make what is there the blob: it is verified."""

    def discard(self) -> None:
        """Delete what is there: it is not the blob."""


async def complete(
    source: BlobSource, slots: Slots, blob: LayerSource, sink: BlobSink, tally: Tally | None = None
) -> None:
    """Fetch a whole blob at background priority, check its digest and its diff ID, commit it.

    Goes on where an earlier run ended. Cancelling keeps what came.

    Args:
        source: the blob.
        slots: of its registry.
        blob: what it has to be.
        sink: where it goes.
        tally: counts the requests.

    Raises:
        DataLoss: it is not what its digest or diff ID says; nothing is kept.
        NotFound, PermissionDenied, Unavailable: as the source.
        ResourceExhausted, PermissionDenied: as the sink.
    """
    counters = tally or Tally()
    offset = await trio.to_thread.run_sync(lambda: sink.offset)
    while offset < blob.size:
        wanted = BlobRange(offset, min(REQUEST_BYTES, blob.size - offset))
        counters.requests += 1
        data = await slots.run_in_background(partial(source.read, wanted, Priority.BACKGROUND))
        counters.came(len(data), len(data))
        await trio.to_thread.run_sync(sink.write, data)
        offset += len(data)
    try:
        await trio.to_thread.run_sync(_verify, sink, blob)
    except DataLoss:
        source.distrust()
        await trio.to_thread.run_sync(sink.discard)
        raise
    await trio.to_thread.run_sync(sink.commit)


def _verify(sink: BlobSink, blob: LayerSource) -> None:
    descriptor = sink.open()
    try:
        hasher = blob.diff_id.hasher()
        try:
            stream = open_stream(descriptor, Limits(), algorithm=blob.digest.algorithm)
            for block in stream:
                trio.from_thread.check_cancelled()
                hasher.update(block)
        except RefusedInput as error:
            raise DataLoss(f"layer {str(blob.digest)!r} cannot be decompressed: {error}") from error
    finally:
        os.close(descriptor)
    if stream.blob_size != blob.size or stream.blob_digest() != blob.digest:
        raise DataLoss(f"what was fetched of layer {str(blob.digest)!r} has another digest")
    found = Digest(blob.diff_id.algorithm, hasher.hexdigest())
    if found != blob.diff_id:
        raise DataLoss(
            f"layer {str(blob.digest)!r} has the diff ID {found}, not {blob.diff_id}:"
            " its image says something else of it than it is"
        )
