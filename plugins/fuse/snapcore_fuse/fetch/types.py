"""Values of fetching, and where bytes of a blob come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from snapcore_fuse.formats import BlobRange


class Priority(IntEnum):
    """Who goes first; the lower the sooner."""

    BLOCKED = 0
    """Somebody's read(2) waits for it."""
    PREFETCH = 1
    """Somebody's read(2) will likely want it soon."""
    BACKGROUND = 2
    """Nobody wants it now."""


class BlobSource(Protocol):
    """One layer's blob."""

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        """Return exactly `wanted.size` bytes, in bounded time.

        Raises:
            NotFound: nobody has the blob.
            PermissionDenied: access was refused.
            DataLoss: what is served is not the blob.
            Unavailable: no answer in time.
        """

    def distrust(self) -> None:
        """Say that bytes read lately proved wrong, so that they are asked of somebody else."""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How a layer is fetched. Sizes are bytes of the blob but for `read_ahead`.

    Attributes:
        deadline: seconds until a read has ended, in bytes or in an error.
        gap: pieces no farther apart than this are asked for in one request.
        request: most bytes of one request for several pieces.
        ride: so many bytes of a request that somebody waits for may be pieces nobody waits for.
        around: so many bytes of pieces behind one that somebody waits for are asked for with it:
            files are read in groups, and a round trip costs more than they do.
        read_ahead: most bytes of the stream fetched ahead of somebody who reads in order.
    """

    deadline: float = 30.0
    gap: int = 32 << 10
    request: int = 2 << 20
    ride: int = 256 << 10
    around: int = 48 << 10
    read_ahead: int = 8 << 20


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """What was done for a layer since it was opened.

    Attributes:
        requests: made to the blob's source.
        fetched: bytes of the blob that came.
        served: bytes of the stream given to readers.
        wasted: bytes of the blob that came and were of no use.
        hits: pieces that readers found in the cache.
        misses: pieces that they had to wait for.
        last_error: message of the last fetch that failed, "" if the last one did not.
        complete: the whole blob is on this host.
    """

    requests: int
    fetched: int
    served: int
    wasted: int
    hits: int
    misses: int
    last_error: str
    complete: bool
