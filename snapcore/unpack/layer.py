"""One layer, from prepare to commit."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from snapcore import labels
from snapcore.archive import ApplyPolicy, Expected, Limits
from snapcore.errors import (
    AlreadyExists,
    ContractError,
    NotFound,
    SnapcoreError,
    Unavailable,
)
from snapcore.locks import FileLock
from snapcore.snapshots import Mounts, Snapshotter
from snapcore.unpack.events import (
    Events,
    LayerDone,
    Outcome,
    UnpackProgress,
    UnpackStarted,
)
from snapcore.unpack.fetching import FetchAhead
from snapcore.unpack.plan import LayerPlan, is_committed
from snapcore.unpack.pool import LayerJob
from snapcore.unpack.target import open_destination
from snapcore.unpack.workplace import Workplace

_log = logging.getLogger(__name__)

EXTRACT_PREFIX: Final = "extract-"
"""Keys of layers in progress begin so; the owner's id follows."""
_TRIES: Final = 3
_LOCK_POLL_SECONDS: Final = 0.02
_CLEANUP_SECONDS: Final = 10


class LayerUnpacker:
    """Makes snapshots of layers, one at a time, for one snapshotter."""

    def __init__(
        self,
        place: Workplace,
        snapshotter: Snapshotter,
        limits: Limits,
        policy: ApplyPolicy,
        events: Events,
    ) -> None:
        """See `Unpacker`, which passes all of these on."""
        self._place = place
        self._snapshotter = snapshotter
        self._limits = limits
        self._policy = policy
        self._events = events

    async def unpack(self, layer: LayerPlan, ahead: FetchAhead, image: Mapping[str, str]) -> None:
        """Make sure that a layer is committed under its chain ID.

        Args:
            layer: the layer; its parent is committed.
            ahead: knows when the layer's bytes are here.
            image: labels that all layers of the image get.

        Raises:
            SnapcoreError: naming the layer; the key in progress is gone again.
        """
        given = snapshot_labels(layer, image)
        async with self._chain_lock(layer.chain_id):
            if await trio.to_thread.run_sync(is_committed, self._snapshotter, layer.chain_id):
                how: Outcome = "exists"
            else:
                how = await self._make(layer, ahead, given)
        self._events(LayerDone(layer.descriptor, self._snapshotter.name, layer.chain_id, how))

    async def _make(self, layer: LayerPlan, ahead: FetchAhead, given: Mapping[str, str]) -> Outcome:
        for whiteouts_first in (False, True):
            prepared = await self._prepare(layer, given)
            if prepared is None:
                return "remote"
            key, mounts = prepared
            try:
                if mounts and mounts[-1].read_only:
                    return await self._commit(layer, key, given, "staged")
                await ahead.wait(layer.descriptor)
                if await self._apply(layer, key, whiteouts_first=whiteouts_first):
                    how = await self._commit(layer, key, given, "applied")
                    await trio.to_thread.run_sync(self._label_uncompressed, layer)
                    return how
            except BaseException:
                await self._abort(key)
                raise
            await self._abort(key)
        # The second run collects every whiteout before it applies anything.
        raise ContractError(f"layer {layer.descriptor.digest}: a late whiteout in the second run")

    async def _prepare(
        self, layer: LayerPlan, given: Mapping[str, str]
    ) -> tuple[str, Mounts] | None:
        """Return a fresh key and its mounts; None if the snapshot has appeared by itself."""
        for _ in range(_TRIES):
            unique = f"{time.time_ns()}-{secrets.token_urlsafe(3)}"
            key = f"{EXTRACT_PREFIX}{self._place.owner}-{unique} {layer.chain_id}"
            try:
                mounts = await trio.to_thread.run_sync(
                    partial(
                        self._snapshotter.prepare,
                        key,
                        layer.parent,
                        labels=given,
                        checkpoint=trio.from_thread.check_cancelled,
                    )
                )
            except AlreadyExists:
                if await trio.to_thread.run_sync(is_committed, self._snapshotter, layer.chain_id):
                    return None
                _log.debug("prepare said %r exists, but %r does not", key, layer.chain_id)
            else:
                return key, mounts
        raise Unavailable(
            f"layer {layer.descriptor.digest}: snapshotter {self._snapshotter.name!r} said"
            f" {_TRIES} times that {layer.chain_id} exists, and then that it does not"
        )

    async def _apply(self, layer: LayerPlan, key: str, *, whiteouts_first: bool) -> bool:
        """Apply a layer; False if it must be done again, whiteouts first."""
        name = self._snapshotter.name
        self._events(UnpackStarted(layer.descriptor, name, layer.chain_id))
        target = await trio.to_thread.run_sync(self._snapshotter.target, key)
        blob = self._place.store.open_blob(layer.descriptor.digest)
        try:
            with open_destination(target, self._place.state, base=not layer.parent) as destination:
                job = LayerJob(
                    blob,
                    destination,
                    Expected(layer.descriptor.digest, layer.descriptor.size, layer.diff_id),
                    self._limits,
                    self._policy,
                    whiteouts_first,
                )
                result = await self._place.workers.apply(
                    job, lambda read: self._events(UnpackProgress(layer.descriptor, name, read))
                )
        except SnapcoreError as error:
            text = f"layer {layer.descriptor.digest} for snapshotter {name!r}: {error}"
            raise type(error)(text) from error
        finally:
            os.close(blob)
        if result is None:
            return False
        if result.skipped:
            _log.info("layer %s: left out %s", layer.descriptor.digest, dict(result.skipped))
        return True

    async def _commit(
        self, layer: LayerPlan, key: str, given: Mapping[str, str], how: Outcome
    ) -> Outcome:
        try:
            await trio.to_thread.run_sync(
                lambda: self._snapshotter.commit(
                    layer.chain_id,
                    key,
                    labels=given,
                    checkpoint=trio.from_thread.check_cancelled,
                )
            )
        except AlreadyExists:
            # Somebody who does not know our locks was faster; what they committed is the same.
            await self._abort(key)
            return "exists"
        return how

    async def _abort(self, key: str) -> None:
        """Remove a key in progress, even while being cancelled."""
        with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
            try:
                await trio.to_thread.run_sync(self._snapshotter.remove, key, abandon_on_cancel=True)
            except NotFound:
                pass
            except SnapcoreError as error:
                _log.warning("cannot remove unfinished snapshot %r: %s", key, error)

    def _label_uncompressed(self, layer: LayerPlan) -> None:
        self._place.store.update(
            layer.descriptor.digest,
            {labels.UNCOMPRESSED: str(layer.diff_id)},
            (f"labels.{labels.UNCOMPRESSED}",),
        )

    @asynccontextmanager
    async def _chain_lock(self, chain_id: str) -> AsyncIterator[None]:
        """Hold the node's lock on one snapshot, against threads and processes alike."""
        name = f"chain-{self._snapshotter.name}-{chain_id.replace(':', '-')}"
        lock = FileLock(os.path.join(self._place.locks, name))
        while not lock.try_acquire():
            await trio.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            lock.discard()


def snapshot_labels(layer: LayerPlan, image: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that prepare and commit of a layer get, the same for both.

    Only allow-listed annotations of the layer's author come through, and what the caller and
    snapcore say wins over them.
    """
    own = {
        labels.SNAPSHOT_REF: layer.chain_id,
        labels.SNAPSHOT_DIFF_ID: str(layer.diff_id),
    }
    if layer.parent:
        own[labels.SNAPSHOT_PARENT_CHAIN_ID] = layer.parent
    if labels.CRI_IMAGE_REF in image:
        own[labels.CRI_LAYER_DIGEST] = str(layer.descriptor.digest)
    return {**labels.inherited(layer.descriptor.annotations), **image, **own}
