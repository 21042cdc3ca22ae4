"""One layer in its order, from prepare to commit: its parent is committed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace

from snapcore.archive import ApplyPolicy, Expected, LayerResult, Limits
from snapcore.errors import ContractError, SnapcoreError
from snapcore.snapshots import Capability, LayerTarget, SnapshotStatus
from snapcore.unpack.events import (
    Events,
    LayerDone,
    LayerPlanned,
    Outcome,
    UnpackProgress,
    UnpackStarted,
)
from snapcore.unpack.fetching import FetchAhead
from snapcore.unpack.jobs import Applied, LayerJob, OwnApply, apply_to_all
from snapcore.unpack.stage import Prepared, Stage
from snapcore.unpack.target import open_destination
from snapcore.unpack.workplace import Workplace

_log = logging.getLogger(__name__)


class LayerUnpacker:
    """Makes snapshots of layers, one at a time, in all snapshotters that lack them."""

    def __init__(
        self, place: Workplace, limits: Limits, policy: ApplyPolicy, events: Events
    ) -> None:
        """See `Unpacker`, which passes all of these on."""
        self.place = place
        self._limits = limits
        self._policy = policy
        self._events = events

    async def unpack(self, stages: Sequence[Stage], ahead: FetchAhead) -> None:
        """Make sure that a layer is committed under its chain ID, everywhere.

        Args:
            stages: the layer, for each snapshotter that lacks it; its parent is committed.
            ahead: knows when the layer's bytes are here.

        Raises:
            SnapcoreError: naming the layer; the keys in progress are gone again. If only one
                of the snapshotters failed, the others have committed the layer.
        """
        async with AsyncExitStack() as locks:
            missing = []
            for stage in sorted(stages, key=lambda stage: stage.name):
                await locks.enter_async_context(stage.locked())
                if await stage.exists():
                    self.tell_done(stage, "exists")
                else:
                    missing.append(stage)
            await self.make(missing, ahead)

    async def make(self, stages: Sequence[Stage], ahead: FetchAhead) -> None:
        """As `unpack`, where it is not committed yet; the caller holds the locks."""
        for whiteouts_first in (False, True):
            stages = await self._attempt(stages, ahead, whiteouts_first=whiteouts_first)
            if not stages:
                return
        # The second run collects every whiteout before it applies anything.
        digest = stages[0].layer.descriptor.digest
        raise ContractError(f"layer {digest}: a late whiteout in the second run")

    async def _attempt(
        self, stages: Sequence[Stage], ahead: FetchAhead, *, whiteouts_first: bool
    ) -> list[Stage]:
        """Make a layer; return the stages for which it must be done again, whiteouts first."""
        pending: dict[Stage, Prepared] = {}
        try:
            for stage in stages:
                prepared = await stage.prepare(stage.layer.parent)
                if prepared is None:
                    self.tell_done(stage, "remote")
                    continue
                pending[stage] = prepared
                if prepared.staged:
                    made = await stage.commit(prepared)
                    del pending[stage]
                    self.tell_done(stage, "staged" if made else "exists")
                elif stage.remote:
                    await self._tell_changed(stage, prepared)
            if not pending:
                return []
            await ahead.wait(stages[0].layer.descriptor)
            results = await self._apply(dict(pending), whiteouts_first=whiteouts_first)
            for stage, result in results.items():
                if isinstance(result, LayerResult):
                    tell_skipped(stage, result)
                    await self.finish(stage, pending[stage])
                    del pending[stage]
            for stage, result in results.items():
                if isinstance(result, SnapcoreError):
                    raise stage.blamed(result) from result
            return list(pending)
        finally:
            for stage, prepared in pending.items():
                await stage.abort(prepared)

    async def finish(self, stage: Stage, prepared: Prepared, parent: str = "") -> None:
        """Commit a layer that was applied here, and say so."""
        made = await stage.commit(prepared, parent)
        await stage.label_uncompressed()
        self.tell_done(stage, "applied" if made else "exists")

    def tell_planned(self, stage: Stage, status: SnapshotStatus) -> None:
        """Tell the listener what a snapshotter will make of a layer, if it knows."""
        detail = status.format if status.lazy else status.reason
        if detail:
            blob = stage.layer.descriptor
            self._events(LayerPlanned(blob, stage.name, status.lazy, detail))

    async def _tell_changed(self, stage: Stage, prepared: Prepared) -> None:
        """Tell the listener why a layer is unpacked after all."""
        status = await stage.status(prepared)
        if status.reason != stage.planned.reason:
            self.tell_planned(stage, status)

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
        own = None
        if Capability.OWN_APPLY in stage.snapshotter.capabilities:
            own = OwnApply(stage.name, stage.snapshotter.options)
            # What is below is not for its worker to see, and need not be mounted.
            target = replace(target, lowers=())
        blob = self.place.store.open_blob(layer.descriptor.digest)
        try:
            with open_destination(target, self.place.state, base=base) as destination:
                self._events(UnpackStarted(layer.descriptor, stage.name, layer.chain_id))
                expected = Expected(layer.descriptor.digest, layer.descriptor.size, layer.diff_id)
                yield LayerJob(blob, destination, expected, self._limits, self._policy, own)
        finally:
            os.close(blob)

    async def _apply(
        self, pending: Mapping[Stage, Prepared], *, whiteouts_first: bool
    ) -> dict[Stage, Applied]:
        """Apply a layer everywhere; None where it must be done again, whiteouts first."""
        stages = tuple(pending)
        targets = [await stage.target(prepared) for stage, prepared in pending.items()]

        def progress(read: int) -> None:
            for stage in stages:
                self.tell_progress(stage, read)

        async with self.place.layers:
            with ExitStack() as opened:
                jobs = [self._open(opened, *each) for each in zip(stages, targets, strict=True)]
                try:
                    results = await apply_to_all(
                        self.place.workers, jobs, progress, whiteouts_first=whiteouts_first
                    )
                except SnapcoreError as error:
                    raise stages[0].of_layer(error) from error
        return dict(zip(stages, results, strict=True))

    def _open(self, opened: ExitStack, stage: Stage, target: LayerTarget) -> LayerJob:
        with stage.named():
            return opened.enter_context(self.job(stage, target, base=not stage.layer.parent))


def tell_skipped(stage: Stage, result: LayerResult) -> None:
    """Log what was left out of a layer on purpose."""
    if result.skipped:
        _log.info("layer %s: left out %s", stage.layer.descriptor.digest, dict(result.skipped))
