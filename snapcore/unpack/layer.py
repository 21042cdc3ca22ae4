"""One layer in its order, from prepare to commit: its parent is committed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from snapcore.archive import ApplyPolicy, Expected, LayerResult, Limits
from snapcore.errors import ContractError
from snapcore.snapshots import LayerTarget
from snapcore.unpack.events import (
    Events,
    LayerDone,
    Outcome,
    UnpackProgress,
    UnpackStarted,
)
from snapcore.unpack.fetching import FetchAhead
from snapcore.unpack.jobs import LayerJob, apply_layer
from snapcore.unpack.stage import Prepared, Stage
from snapcore.unpack.target import open_destination
from snapcore.unpack.workplace import Workplace

_log = logging.getLogger(__name__)


class LayerUnpacker:
    """Makes snapshots of layers, one at a time, for one snapshotter."""

    def __init__(
        self, place: Workplace, limits: Limits, policy: ApplyPolicy, events: Events
    ) -> None:
        """See `Unpacker`, which passes all of these on."""
        self.place = place
        self._limits = limits
        self._policy = policy
        self._events = events

    async def unpack(self, stage: Stage, ahead: FetchAhead) -> None:
        """Make sure that a layer is committed under its chain ID.

        Args:
            stage: the layer; its parent is committed.
            ahead: knows when the layer's bytes are here.

        Raises:
            SnapcoreError: naming the layer; the key in progress is gone again.
        """
        async with stage.locked():
            if await stage.exists():
                self.tell_done(stage, "exists")
            else:
                await self.make(stage, ahead)

    async def make(self, stage: Stage, ahead: FetchAhead) -> None:
        """As `unpack`, for a layer that is not committed; the caller holds its lock."""
        for whiteouts_first in (False, True):
            prepared = await stage.prepare(stage.layer.parent)
            if prepared is None:
                self.tell_done(stage, "remote")
                return
            try:
                if prepared.staged:
                    made = await stage.commit(prepared)
                    self.tell_done(stage, "staged" if made else "exists")
                    return
                await ahead.wait(stage.layer.descriptor)
                if await self._apply(stage, prepared, whiteouts_first=whiteouts_first):
                    await self.finish(stage, prepared)
                    return
            except BaseException:
                await stage.abort(prepared)
                raise
            await stage.abort(prepared)
        # The second run collects every whiteout before it applies anything.
        digest = stage.layer.descriptor.digest
        raise ContractError(f"layer {digest}: a late whiteout in the second run")

    async def finish(self, stage: Stage, prepared: Prepared, parent: str = "") -> None:
        """Commit a layer that was applied here, and say so."""
        made = await stage.commit(prepared, parent)
        await stage.label_uncompressed()
        self.tell_done(stage, "applied" if made else "exists")

    def tell_done(self, stage: Stage, how: Outcome) -> None:
        """Tell the listener that a layer is committed."""
        layer = stage.layer
        self._events(LayerDone(layer.descriptor, stage.name, layer.chain_id, how))

    def tell_progress(self, stage: Stage, read: int) -> None:
        """Tell the listener how far a layer is."""
        self._events(UnpackProgress(stage.layer.descriptor, stage.name, read))

    @contextmanager
    def job(self, stage: Stage, target: LayerTarget, *, base: bool) -> Iterator[LayerJob]:
        """Open what a worker needs to apply a layer, for the duration of the block.

        Args:
            stage: the layer; its blob is in the store.
            target: where it goes.
            base: nothing is below it.
        """
        layer = stage.layer
        blob = self.place.store.open_blob(layer.descriptor.digest)
        try:
            with open_destination(target, self.place.state, base=base) as destination:
                self._events(UnpackStarted(layer.descriptor, stage.name, layer.chain_id))
                expected = Expected(layer.descriptor.digest, layer.descriptor.size, layer.diff_id)
                yield LayerJob(blob, destination, expected, self._limits, self._policy)
        finally:
            os.close(blob)

    async def _apply(self, stage: Stage, prepared: Prepared, *, whiteouts_first: bool) -> bool:
        """Apply a layer; False if it must be done again, whiteouts first."""
        target = await stage.target(prepared)
        async with self.place.layers:
            with stage.named(), self.job(stage, target, base=not stage.layer.parent) as job:
                result = await apply_layer(
                    self.place.workers,
                    job,
                    lambda read: self.tell_progress(stage, read),
                    whiteouts_first=whiteouts_first,
                )
        if result is not None:
            tell_skipped(stage, result)
        return result is not None


def tell_skipped(stage: Stage, result: LayerResult) -> None:
    """Log what was left out of a layer on purpose."""
    if result.skipped:
        _log.info("layer %s: left out %s", stage.layer.descriptor.digest, dict(result.skipped))
