"""One snapshotter's side of one layer: its lock, its key in progress, its commit."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from snapcore import labels
from snapcore.errors import (
    AlreadyExists,
    NotFound,
    RefusedInput,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    from_os_error,
)
from snapcore.locks import FileLock
from snapcore.oci import Digest
from snapcore.snapshots import Capability, LayerTarget, Mounts, SnapshotStatus, Snapshotter
from snapcore.unpack.leftovers import EXTRACT_PREFIX, reclaim, remove_unfinished
from snapcore.unpack.plan import LayerPlan, is_committed
from snapcore.unpack.workplace import Workplace

_log = logging.getLogger(__name__)

_TRIES: Final = 3
_LOCK_POLL_SECONDS: Final = 0.02
_CLEANUP_SECONDS: Final = 10
_FULL_TRIES: Final = 20
_FULL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot in progress.

    Attributes:
        key: its key.
        mounts: what prepare gave.
    """

    key: str
    mounts: Mounts

    @property
    def staged(self) -> bool:
        """Whether the content is there already and nothing is applied."""
        return bool(self.mounts) and self.mounts[-1].read_only


class Stage:
    """Makes one layer's snapshot in one snapshotter, step by step.

    Attributes:
        layer: the layer.
        snapshotter: who gets it.
        remote: whether it may supply the layer itself.
        planned: what it said of that.
    """

    def __init__(
        self,
        place: Workplace,
        snapshotter: Snapshotter,
        layer: LayerPlan,
        image: Mapping[str, str],
        above: Sequence[Digest] = (),
    ) -> None:
        """Make a stage.

        Args:
            place: where it works.
            snapshotter: who gets the layer.
            layer: the layer.
            image: labels that all layers of the image get.
            above: blobs of this layer and of those that come on top of it.
        """
        self.layer: Final = layer
        self.snapshotter: Final = snapshotter
        self._place: Final = place
        self._labels: Final = snapshot_labels(layer, image, above)
        self.remote: Final = Capability.REMOTE in snapshotter.capabilities
        self.planned = SnapshotStatus()

    @property
    def name(self) -> str:
        """The snapshotter's name."""
        return self.snapshotter.name

    async def exists(self) -> bool:
        """Tell whether the snapshot is committed."""
        return await trio.to_thread.run_sync(is_committed, self.snapshotter, self.layer.chain_id)

    async def plan(self) -> SnapshotStatus:
        """Ask a remote snapshotter what it will make of the layer; nothing is made."""
        if self.remote:
            self.planned = await trio.to_thread.run_sync(
                partial(
                    self.snapshotter.plan,
                    self._labels,
                    checkpoint=trio.from_thread.check_cancelled,
                )
            )
        return self.planned

    async def status(self, prepared: Prepared) -> SnapshotStatus:
        """Return how a snapshot in progress fares."""
        return await trio.to_thread.run_sync(self.snapshotter.status, prepared.key)

    async def prepare(self, parent: str) -> Prepared | None:
        """Return a fresh snapshot in progress; None if the committed one has come by itself.

        Args:
            parent: the layer's parent, or "" if it will be rebased onto that.

        Raises:
            Unavailable: the snapshotter made a promise three times and did not keep it.
            SnapcoreError: as the snapshotter.
        """
        for _ in range(_TRIES):
            key = self._fresh_key(self.layer.chain_id)
            try:
                mounts = await trio.to_thread.run_sync(
                    partial(
                        self.snapshotter.prepare,
                        key,
                        parent,
                        labels=self._labels,
                        passing=True,
                        checkpoint=trio.from_thread.check_cancelled,
                    )
                )
            except AlreadyExists:
                if await self.exists():
                    return None
                _log.debug("prepare said %r exists, but %r does not", key, self.layer.chain_id)
            else:
                return Prepared(key, mounts)
        raise Unavailable(
            f"layer {self.layer.descriptor.digest}: snapshotter {self.name!r} said"
            f" {_TRIES} times that {self.layer.chain_id} exists, and then that it does not"
        )

    async def target(self, prepared: Prepared) -> LayerTarget:
        """Return where the layer is applied."""
        return await trio.to_thread.run_sync(self.snapshotter.target, prepared.key)

    async def commit(self, prepared: Prepared, parent: str = "") -> bool:
        """Commit under the chain ID; False if somebody else was faster, which is as good.

        Args:
            prepared: what `prepare` gave; gone afterwards.
            parent: rebases onto this; "" keeps the parent.
        """
        try:
            await trio.to_thread.run_sync(
                lambda: self.snapshotter.commit(
                    self.layer.chain_id,
                    prepared.key,
                    labels=self._labels,
                    parent=parent,
                    checkpoint=trio.from_thread.check_cancelled,
                )
            )
        except AlreadyExists:
            # Somebody who does not know our locks; what they committed is the same.
            await self.abort(prepared)
            return False
        except RefusedInput as error:
            # Some see only now what the layer does to those below it.
            raise self.blamed(error) from error
        return True

    async def abort(self, prepared: Prepared) -> None:
        """Remove a snapshot in progress, even while being cancelled."""
        await self._remove(prepared.key)

    @asynccontextmanager
    async def view_of_parent(self) -> AsyncIterator[Mounts]:
        """Have a temporary View of the layer's parent for the duration of the block."""
        key = self._fresh_key(self.layer.parent)
        mounts = await trio.to_thread.run_sync(
            partial(
                self.snapshotter.view,
                key,
                self.layer.parent,
                checkpoint=trio.from_thread.check_cancelled,
            )
        )
        try:
            yield mounts
        finally:
            await self._remove(key)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the node's lock on the snapshot, against tasks and processes alike.

        Locks of one chain are taken from the base up, so that nobody waits in a circle.
        """
        name = f"chain-{self.name}-{self.layer.chain_id.replace(':', '-')}"
        lock = FileLock(os.path.join(self._place.locks, name))
        try:
            while not lock.try_acquire():
                await trio.sleep(_LOCK_POLL_SECONDS)
        except OSError as error:
            raise from_os_error(error, f"lock file {lock.path!r}") from error
        try:
            yield
        finally:
            lock.discard()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say in what goes wrong inside the block which layer and snapshotter it was.

        An error that names the layer already is only told the snapshotter.
        """
        try:
            yield
        except SnapcoreError as error:
            raise self.blamed(error) from error

    def blamed(self, error: SnapcoreError) -> SnapcoreError:
        """Return an error that says which layer and snapshotter it was.

        One that names the layer already is only told the snapshotter.
        """
        digest, text = str(self.layer.descriptor.digest), str(error)
        if isinstance(error, ResourceExhausted) and self.snapshotter.root not in text:
            text = f"{text} (in {self.snapshotter.root!r})"
        if digest in text:
            return type(error)(f"snapshotter {self.name!r}: {text}")
        return type(error)(f"layer {digest} for snapshotter {self.name!r}: {text}")

    def of_layer(self, error: SnapcoreError) -> SnapcoreError:
        """Return an error that says which layer it was, whatever it is unpacked for."""
        digest, text = str(self.layer.descriptor.digest), str(error)
        return error if digest in text else type(error)(f"layer {digest}: {text}")

    async def label_uncompressed(self) -> None:
        """Write the diff ID on the blob, which was verified here."""
        key = labels.UNCOMPRESSED
        await trio.to_thread.run_sync(
            self._place.store.update,
            self.layer.descriptor.digest,
            {key: str(self.layer.diff_id)},
            (f"labels.{key}",),
        )

    def _fresh_key(self, chain_id: str) -> str:
        unique = f"{time.time_ns()}-{secrets.token_urlsafe(3)}"
        return f"{EXTRACT_PREFIX}{self._place.owner}-{unique} {chain_id}"

    async def _remove(self, key: str) -> None:
        with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
            await self._forget(key)
        with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
            # At once, not some day: its files may be what fills the disk.
            await trio.to_thread.run_sync(
                reclaim, self.snapshotter, trio.from_thread.check_cancelled
            )

    async def _forget(self, key: str) -> None:
        """Remove a key; on a full disk wait a moment for what other layers give back."""
        remove = partial(remove_unfinished, self.snapshotter, key, trio.from_thread.check_cancelled)
        for _ in range(_FULL_TRIES):
            try:
                await trio.to_thread.run_sync(remove, abandon_on_cancel=True)
            except NotFound:
                return
            except ResourceExhausted as error:
                failure: SnapcoreError = error
                await trio.sleep(_FULL_SECONDS)
            except SnapcoreError as error:
                failure = error
                break
            else:
                return
        _log.warning("cannot remove unfinished snapshot %r: %s", key, failure)


def snapshot_labels(
    layer: LayerPlan, image: Mapping[str, str], above: Sequence[Digest] = ()
) -> dict[str, str]:
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
        own[labels.CRI_IMAGE_LAYERS] = labels.image_layers(above or (layer.descriptor.digest,))
    return {**labels.inherited(layer.descriptor.annotations), **image, **own}
