"""Layer downloads that run ahead of unpacking, in layer order and under a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import trio

from snapcore.oci import Descriptor
from snapcore.unpack.handlers import SkipDescriptor

Fetch: TypeAlias = Callable[[Descriptor], Awaitable[object]]
"""Brings a blob into the content store, verified; raises SkipDescriptor for "not needed"."""


class FetchAhead:
    """Downloads of one image's layers.

    The limiter is the node's: several images share it. A failed download raises in the nursery
    and so cancels everything else of this image.
    """

    def __init__(
        self, fetch: Fetch, limiter: trio.CapacityLimiter, nursery: trio.Nursery, *, eager: bool
    ) -> None:
        """Make a fetcher.

        Args:
            fetch: the handler that downloads.
            limiter: at most so many at a time.
            nursery: where downloads run.
            eager: start all at once; else a layer is fetched only when it is waited for (a
                remote snapshotter may still supply it).
        """
        self._fetch = fetch
        self._limiter = limiter
        self._nursery = nursery
        self._eager = eager
        self._done: dict[str, trio.Event] = {}

    def begin(self, layers: Sequence[Descriptor]) -> None:
        """Start the downloads, in this order, if they run ahead at all."""
        if self._eager:
            self._nursery.start_soon(self._run_in_order, tuple(layers))

    async def wait(self, layer: Descriptor) -> None:
        """Wait until a layer's bytes are in the content store."""
        if not self._eager and str(layer.digest) not in self._done:
            await self._start(layer)
        await self._event(layer).wait()

    async def _run_in_order(self, layers: Sequence[Descriptor]) -> None:
        # One task takes the places in the queue: trio starts tasks in no particular order.
        started: set[str] = set()
        for layer in layers:
            if str(layer.digest) not in started:
                started.add(str(layer.digest))
                await self._start(layer)

    async def _start(self, layer: Descriptor) -> None:
        event = self._event(layer)
        await self._limiter.acquire_on_behalf_of(event)
        self._nursery.start_soon(self._run, layer, event)

    async def _run(self, layer: Descriptor, event: trio.Event) -> None:
        try:
            with suppress(SkipDescriptor):
                await self._fetch(layer)
        finally:
            self._limiter.release_on_behalf_of(event)
        event.set()

    def _event(self, layer: Descriptor) -> trio.Event:
        return self._done.setdefault(str(layer.digest), trio.Event())
