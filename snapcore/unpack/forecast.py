"""What remote snapshotters will make of an image's layers: shown, and fetched by, ahead of time.

A layer that a remote snapshotter leaves to be unpacked must be fetched, and which ones these are
is known long before their turn comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from snapcore.unpack.fetching import FetchAhead
from snapcore.unpack.layer import LayerUnpacker
from snapcore.unpack.stage import Stage


class Forecast:
    """Asks about the layers of one image, the lowest first. For one trio run.

    Args:
        unpacker: tells the listener what is found out.
        layers: for each layer that is lacking, its stages, the lowest layer first.
        ahead: begins with what has to be fetched.
    """

    def __init__(
        self, unpacker: LayerUnpacker, layers: Sequence[Sequence[Stage]], ahead: FetchAhead
    ) -> None:
        self._unpacker: Final = unpacker
        self._layers: Final = layers
        self._ahead: Final = ahead
        self._known: Final = [trio.Event() for _ in layers]

    async def run(self) -> None:
        """Ask, and begin to fetch what somebody needs for certain."""
        for stages, known in zip(self._layers, self._known, strict=True):
            needed = False
            for stage in stages:
                status = await stage.plan()
                self._unpacker.tell_planned(stage, status)
                needed = needed or not stage.remote or bool(status.reason and not status.lazy)
            if needed:
                self._ahead.begin([stages[0].layer.descriptor])
            known.set()

    async def wait(self, number: int) -> None:
        """Wait until a layer, by its place in the list, was asked about."""
        await self._known[number].wait()
