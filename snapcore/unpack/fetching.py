"""Layer downloads that run ahead of unpacking, in layer order and under a limit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

import trio

from snapcore.oci import Descriptor, Digest
from snapcore.unpack.handlers import SkipDescriptor

Fetch: TypeAlias = Callable[[Descriptor], Awaitable[object]]
"""Brings a blob into the content store, verified; raises SkipDescriptor for "not needed"."""


class FetchAhead:
    """Downloads of one image's layers.

    The limiter is the node's: several images share it. A failed download raises in the nursery
    and so cancels everything else of this image.
    """

    def __init__(self, fetch: Fetch, limiter: trio.CapacityLimiter, nursery: trio.Nursery) -> None:
        """Make a fetcher.

        Args:
            fetch: the handler that downloads.
            limiter: at most so many at a time.
            nursery: where downloads run.
        """
        self._fetch = fetch
        self._limiter = limiter
        self._nursery = nursery
        self._done: dict[Digest, trio.Event] = {}
        self._queue, queued = trio.open_memory_channel[Descriptor](math.inf)
        # One task takes the places in the queue: trio starts tasks in no particular order.
        nursery.start_soon(self._run_in_order, queued)

    def begin(self, layers: Iterable[Descriptor]) -> None:
        """Have these downloaded after those before them; others as soon as they are waited for."""
        for layer in layers:
            if layer.digest not in self._done:
                self._done[layer.digest] = trio.Event()
                self._queue.send_nowait(layer)

    async def wait(self, layer: Descriptor) -> None:
        """Wait until a layer's bytes are in the content store."""
        self.begin([layer])
        await self._done[layer.digest].wait()

    def close(self) -> None:
        """Begin no more downloads: all that will be waited for was."""
        self._queue.close()

    async def _run_in_order(self, layers: trio.MemoryReceiveChannel[Descriptor]) -> None:
        async for layer in layers:
            event = self._done[layer.digest]
            await self._limiter.acquire_on_behalf_of(event)
            self._nursery.start_soon(self._run, layer, event)

    async def _run(self, layer: Descriptor, event: trio.Event) -> None:
        try:
            with suppress(SkipDescriptor):
                await self._fetch(layer)
        finally:
            self._limiter.release_on_behalf_of(event)
        event.set()
