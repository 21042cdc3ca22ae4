"""Making damaged snapshots again in their place, from the layers of an image that has them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import trio

from snapcore.config import UnpackConfig
from snapcore.errors import (
    DigestMismatch,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    SnapcoreError,
)
from snapcore.metadata import Image
from snapcore.mount import mounts_showing
from snapcore.node.acquire import Acquisition, unpacking
from snapcore.node.blobs import blobs_of
from snapcore.node.ground import Ground
from snapcore.node.holding import leased
from snapcore.node.integrity import Integrity, SnapshotCheck, Verdict
from snapcore.node.recovery import Recovery
from snapcore.node.values import UnpackChoice
from snapcore.oci import Descriptor, Manifest, is_image_config, is_manifest, parse_config
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.snapshots import Checkpoint, Kind, Snapshotter, layer_from_view
from snapcore.unpack import (
    Events,
    Workplace,
    is_committed,
    layer_plans,
    no_events,
    read_document,
    single_error,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Origin:
    """An image of which a snapshot is a layer.

    Attributes:
        image: the image.
        manifest: that of its manifests which names the layer.
        layer: what the snapshot is made of.
        top: its top snapshot.
    """

    image: Image
    manifest: Descriptor
    layer: Descriptor
    top: str


class Repair:
    """Rebuilds snapshots of one node.

    Args:
        config: how layers are unpacked.
        ground: images, mounts, leases and blobs.
        recovery: fetches layers that are not here any more.
        integrity: records what is rebuilt.
    """

    def __init__(
        self, config: UnpackConfig, ground: Ground, recovery: Recovery, integrity: Integrity
    ) -> None:
        self._config: Final = config
        self._metadata: Final = ground.metadata
        self._content: Final = ground.content
        self._recovery: Final = recovery
        self._integrity: Final = integrity
        self._place: Final = ground.place

    async def repair(
        self, snapshotter: Snapshotter, check: SnapshotCheck, events: Events = no_events
    ) -> SnapshotCheck:
        """Make a damaged or broken snapshot again, under its name and below its children.

        Its layer is fetched first if it is not here. Then its old files are out of use, and
        deleted when the new ones are there; if these cannot be made it stays broken, until its
        image is pulled again. Nothing is done to one that something mounted may show, whose layer
        cannot be had, or that no image of this node has.

        Args:
            snapshotter: who has it.
            check: what verifying it has found.
            events: told what is fetched and unpacked.

        Returns:
            What became of it; never an exception for one that cannot be repaired.

        Raises:
            PermissionDenied: the root is read-only for this process.
        """
        if check.verdict not in (Verdict.DAMAGED, Verdict.BROKEN):
            return check
        if self._place is None:
            raise PermissionDenied("repairing writes, and the root is read-only for this process")
        try:
            origin = await trio.to_thread.run_sync(self._origin, snapshotter, check.name)
            damaged = check.name if check.verdict is Verdict.DAMAGED else ""
            await self._rebuild(self._place, snapshotter, damaged, origin, events)
            if not await trio.to_thread.run_sync(is_committed, snapshotter, check.name):
                raise NotFound(f"unpacking {origin.image.name!r} did not make it again")
        except SnapcoreError as error:
            return replace(check, trouble=str(error))
        return replace(check, verdict=Verdict.REPAIRED)

    async def _rebuild(
        self,
        place: Workplace,
        snapshotter: Snapshotter,
        damaged: str,
        origin: _Origin,
        events: Events,
    ) -> None:
        checkpoint = trio.from_thread.check_cancelled
        with single_error(), leased(self._metadata, place.owner, checkpoint) as work:
            async with (
                self._recovery.source(origin.image.target) as source,
                self._integrity.recording([snapshotter], events) as listen,
            ):
                options, extent = unpacking(self._config, UnpackChoice(), source)
                acquisition = Acquisition(place, source, listen, work)
                if damaged:
                    await trio.to_thread.run_sync(
                        self._check_unseen, snapshotter, damaged, checkpoint
                    )
                    await acquisition.bring(origin.layer)
                    await trio.to_thread.run_sync(self._check_layer, origin.layer)
                    await trio.to_thread.run_sync(
                        self._take_out_of_use, snapshotter, damaged, checkpoint
                    )
                await acquisition.run(origin.manifest, extent, [snapshotter], options)

    def _take_out_of_use(self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint) -> None:
        """Mark a snapshot broken, if nothing shows it by now."""
        self._check_unseen(snapshotter, name, checkpoint)
        snapshotter.mark_broken(name)

    def _check_layer(self, layer: Descriptor) -> None:
        """Check that a layer can be applied: what damaged a snapshot may have damaged it too.

        Raises:
            DigestMismatch: it is damaged; the message says what to do.
        """
        try:
            with self._content.reader(layer.digest) as reader:
                reader.verify()
        except DigestMismatch as error:
            raise DigestMismatch(
                f"its layer is damaged too ({error}); content verify --repair comes first"
            ) from error

    def _check_unseen(self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint) -> None:
        """Check that a snapshot may change.

        Raises:
            FailedPrecondition: something mounted may show it.
        """
        for record in self._metadata.mounts.list():
            if record.snapshotter == snapshotter.name and name in _below(snapshotter, record.key):
                raise FailedPrecondition(
                    f"image {record.image!r}, which has it, is mounted at {record.target!r};"
                    " unmount it first"
                )
        for entry in self._shown(snapshotter, name, checkpoint):
            raise FailedPrecondition(f"it is mounted at {entry!r}; unmount that first")

    def _shown(
        self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint
    ) -> tuple[str, ...]:
        """Return where a snapshot's own layer is mounted in this namespace, known to us or not."""
        try:
            with self._integrity.view_of(snapshotter, name, checkpoint) as mounts:
                directory = layer_from_view(mounts)
            return tuple(entry.target for entry in mounts_showing(directory)) if directory else ()
        except (NotFound, FileNotFoundError):
            # Its directory is gone: whatever is mounted shows nothing of it.
            return ()

    def _origin(self, snapshotter: Snapshotter, name: str) -> _Origin:
        """Return an image that has a snapshot, best one that is unpacked in this snapshotter.

        Raises:
            NotFound: none has it.
        """
        found = list(self._origins(name))
        if not found:
            raise NotFound("no image of this node has it: it can only be made again by hand")
        return max(found, key=lambda origin: _is_there(snapshotter, origin.top))

    def _origins(self, name: str) -> Iterator[_Origin]:
        for image in self._metadata.images.list():
            try:
                for blob in blobs_of(self._content, image.target):
                    if is_manifest(blob.media_type) and self._content.exists(blob.digest):
                        chain = self._chain(blob)
                        if name in chain:
                            yield _Origin(image, blob, chain[name], next(reversed(chain)))
            except SnapcoreError as error:
                # Its documents are damaged; another image may have it.
                _log.warning("cannot look into image %r: %s", image.name, error)

    def _chain(self, manifest: Descriptor) -> dict[str, Descriptor]:
        """Return a manifest's snapshots and what they are made of, the lowest first."""
        document = read_document(self._content, manifest)
        if not isinstance(document, Manifest) or not is_image_config(document.config.media_type):
            return {}
        config = parse_config(self._content.read_blob(document.config, MAX_DOCUMENT_BYTES))
        plans = layer_plans(config, document.layers, f"image manifest {manifest.digest}")
        return {plan.chain_id: plan.descriptor for plan in plans}


def _is_there(snapshotter: Snapshotter, name: str) -> bool:
    try:
        return snapshotter.stat(name).kind is Kind.COMMITTED
    except NotFound:
        return False


def _below(snapshotter: Snapshotter, key: str) -> Iterator[str]:
    while key:
        yield key
        try:
            key = snapshotter.stat(key).parent
        except NotFound:
            return
