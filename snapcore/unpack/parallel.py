"""Layers at the same time: each applied apart from its parents, settled once they are committed.

Needs a snapshotter that can rebase. A layer that cannot be applied apart, or whose parent is
committed by the time that its bytes are here, is applied in its order. Either way the trees are
the same (see `archive.apart`).

    lock ─ prepare("") ─ apply apart ─ parent committed? ─ settle over a View of it ─ commit(parent)
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import IO, Final

import trio

from snapcore.errors import from_os_error
from snapcore.snapshots import Capability, Snapshotter
from snapcore.unpack.discards import Committed, keep
from snapcore.unpack.fetching import FetchAhead
from snapcore.unpack.jobs import apply_apart, settle_layer
from snapcore.unpack.layer import LayerUnpacker, tell_skipped
from snapcore.unpack.stage import Prepared, Stage
from snapcore.unpack.target import open_view

_IN_ORDER: Final = frozenset({Capability.REMOTE, Capability.OWN_APPLY})
_log = logging.getLogger(__name__)


def can_run_together(snapshotter: Snapshotter) -> bool:
    """Tell whether a snapshotter's layers can be applied before their parents are committed.

    A remote one wants to know the parent when it is asked to supply a layer; one that applies
    layers by itself is not known to do so apart from their parents.
    """
    capabilities = snapshotter.capabilities
    return Capability.REBASE in capabilities and not capabilities & _IN_ORDER


class ParallelUnpacker:
    """Makes the snapshots of one image's layers, several at a time."""

    def __init__(self, layers: LayerUnpacker, committed: Committed = keep) -> None:
        """Make an unpacker; `layers` does those that go in order, `committed` is told of each."""
        self._layers = layers
        self._committed = committed
        self._place = layers.place

    async def unpack(self, stages: Sequence[Stage], ahead: FetchAhead) -> None:
        """Make sure that layers are committed under their chain IDs.

        Args:
            stages: the layers, the lowest first; the parent of that one is committed.
            ahead: knows when a layer's bytes are here.

        Raises:
            SnapcoreError: naming the layer; no key in progress is left.
        """
        async with trio.open_nursery() as nursery:
            parent = trio.Event()
            parent.set()
            for stage in stages:
                # One task takes the locks, from the base up: see `Stage.locked`.
                lock = AsyncExitStack()
                await lock.enter_async_context(stage.locked())
                done = trio.Event()
                nursery.start_soon(self._run, stage, lock, ahead, parent, done)
                parent = done

    async def _run(
        self,
        stage: Stage,
        lock: AsyncExitStack,
        ahead: FetchAhead,
        parent: trio.Event,
        done: trio.Event,
    ) -> None:
        async with lock:
            if await stage.exists():
                self._layers.tell_done(stage, "exists")
            else:
                await ahead.wait(stage.layer.descriptor)
                if parent.is_set() or not await self._make_apart(stage, parent):
                    await parent.wait()
                    await self._layers.make([stage], ahead)
        done.set()
        await self._committed(stage.layer)

    async def _make_apart(self, stage: Stage, parent: trio.Event) -> bool:
        """Apply, settle and commit a layer; False if it must be made in its order."""
        prepared = await stage.prepare("")
        if prepared is None or prepared.staged:
            # Supplied without its parent: ask again when that is there.
            if prepared is not None:
                await stage.abort(prepared)
            return False
        try:
            with _notes_in(self._place.state) as notes:
                if await self._apply_and_settle(stage, prepared, parent, notes.fileno()):
                    await self._layers.finish(stage, prepared, stage.layer.parent)
                    return True
        except BaseException:
            await stage.abort(prepared)
            raise
        await stage.abort(prepared)
        _log.debug("layer %s: applied in its order", stage.layer.descriptor.digest)
        return False

    async def _apply_and_settle(
        self, stage: Stage, prepared: Prepared, parent: trio.Event, notes: int
    ) -> bool:
        target = await stage.target(prepared)
        with stage.named(), self._layers.job(stage, target, base=False) as job:
            async with self._place.layers:
                result = await apply_apart(
                    self._place.workers,
                    job,
                    lambda read: self._layers.tell_progress(stage, read),
                    notes,
                )
            if result is None:
                return False
            await parent.wait()
            tell_skipped(stage, result)
            if os.fstat(notes).st_size == 0:
                return True
            async with stage.view_of_parent() as mounts, self._place.layers:
                with open_view(mounts, self._place.state) as lower:
                    return await settle_layer(self._place.workers, job, lower, notes)


def _notes_in(directory: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        raise from_os_error(error, f"a file for notes in {directory!r}") from error
