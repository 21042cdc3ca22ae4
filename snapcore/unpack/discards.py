"""Letting the blobs of unpacked layers go: after their image, or one by one for the lowest peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

import trio

from snapcore import labels
from snapcore.content import ContentStore
from snapcore.oci import Descriptor, Digest
from snapcore.snapshots import Snapshotter
from snapcore.unpack.events import BlobDiscarded, Events
from snapcore.unpack.holding import Hold
from snapcore.unpack.plan import ImagePlan, LayerPlan

Committed: TypeAlias = Callable[[LayerPlan], Awaitable[None]]
"""Told of each layer once it is committed in every chosen snapshotter."""


async def keep(layer: LayerPlan) -> None:
    """Let no blob go."""
    del layer


class LayerDiscards:
    """Lets each layer blob of one image go as soon as nobody needs it any more.

    Args:
        store: has the blobs.
        hold: keeps them for the pull, and lets them go.
        manifest: the image's.
        plan: which layers are made; a blob that is used twice goes after its last use.
        snapshotters: who have the layers, on disk before a blob goes.
        events: told of each blob that is gone, from a worker thread.
    """

    def __init__(
        self,
        store: ContentStore,
        hold: Hold,
        manifest: Descriptor,
        plan: ImagePlan,
        snapshotters: Sequence[Snapshotter],
        events: Events,
    ) -> None:
        self._store: Final = store
        self._hold: Final = hold
        self._manifest: Final = manifest
        self._snapshotters: Final = snapshotters
        self._events: Final = events
        self._uses: Final = Counter(layer.descriptor.digest for layer in plan.holes)
        self._dropped: Final[dict[str, str]] = {}

    async def committed(self, layer: LayerPlan) -> None:
        """Let a layer's blob go, unless another layer or anybody else needs it."""
        digest = layer.descriptor.digest
        self._uses[digest] -= 1
        if self._uses[digest] == 0:
            await trio.to_thread.run_sync(self._discard, layer)

    def restore(self) -> None:
        """Write the manifest's references again, as they are for a pull that failed; blocks."""
        if self._dropped:
            paths = tuple(f"labels.{key}" for key in self._dropped)
            self._store.update(self._manifest.digest, self._dropped, paths)

    def _discard(self, layer: LayerPlan) -> None:
        # The blob is what the snapshots could be made of again.
        for snapshotter in self._snapshotters:
            snapshotter.make_durable(layer.chain_id)
        digest = layer.descriptor.digest
        self._dropped.update(drop_references(self._store, self._manifest, [digest]))
        if self._hold.discard(self._store, digest):
            self._events(BlobDiscarded(layer.descriptor))


def drop_references(
    store: ContentStore, manifest: Descriptor, layers: Iterable[Digest]
) -> dict[str, str]:
    """Drop a manifest's references to its unpacked layers, so that they can be collected.

    Exactly the `containerd.io/gc.ref.content.*` labels whose value is one of these layers go;
    the config's and other children's stay. Nothing to drop means no update.

    Returns:
        The labels that were dropped.
    """
    unpacked = {str(layer) for layer in layers}
    prefix = f"{labels.GC_REF_CONTENT}."
    dropped = {
        key: value
        for key, value in store.info(manifest.digest).labels.items()
        if key.startswith(prefix) and value in unpacked
    }
    if dropped:
        paths = tuple(f"labels.{key}" for key in dropped)
        store.update(manifest.digest, dict.fromkeys(dropped, ""), paths)
    return dropped
