"""What each request does: the one place that knows them all."""

from __future__ import annotations

import math
import os
from typing import Final, assert_never

import trio

from snapcore.linux import mount_namespace
from snapcore_fuse.daemon.layers import Layers
from snapcore_fuse.daemon.messages import (
    Answer,
    Ask,
    Build,
    Done,
    Hello,
    Measure,
    Measures,
    Plan,
    Ready,
    Remove,
    Request,
    Resolve,
    Stop,
)

_TO_ANSWER_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 10.0


class Service:
    """Does what requests ask, and knows when nobody asks any more.

    Args:
        layers: what is served.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers: Final = layers
        self._stirred = trio.Event()
        self._active = 0
        self._ending = False

    async def handle(self, request: Request) -> Answer:
        """Do what is asked, and return the answer.

        Raises:
            SnapcoreError: it could not be done.
        """
        self._active += 1
        self._stirred.set()
        try:
            return await self._do(request)
        finally:
            self._active -= 1
            self._stirred.set()

    def stop(self) -> None:
        """Have `until_idle` return soon, whatever is served."""
        self._ending = True
        self._stirred.set()

    async def until_idle(self) -> None:
        """Wait until nothing is served or asked for, or somebody says to stop."""
        while True:
            self._stirred = trio.Event()
            with trio.move_on_after(self._patience()) as scope:
                await self._stirred.wait()
            if scope.cancelled_caught:
                return

    def _patience(self) -> float:
        """Return the seconds without any request after which to end."""
        if self._ending:
            return _TO_ANSWER_SECONDS
        return math.inf if self._active or len(self._layers) else _IDLE_SECONDS

    async def _do(self, request: Request) -> Answer:
        match request:
            case Hello():
                self._layers.configure(request.settings)
                return Ready(os.getpid(), mount_namespace(), len(self._layers))
            case Plan():
                return await self._layers.plan(request)
            case Resolve():
                return await self._layers.resolve(request)
            case Build():
                self._ending = False
                return await self._layers.build(request)
            case Remove():
                self._layers.remove(request.ids)
                wanted = len(self._layers) or self._layers.promised or self._active > 1
                self._ending = self._ending or not wanted
                return Done(self._ending)
            case Ask():
                return self._layers.status(request.id)
            case Measure():
                return Measures(self._layers.metrics())
            case Stop():
                self._ending = True
                return Done(ending=True)
            case _:
                assert_never(request)
