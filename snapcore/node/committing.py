"""Making an image of a changed snapshot."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio

from snapcore import labels
from snapcore.archive import DiffOptions, WrittenLayer
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
)
from snapcore.metadata import Metadata
from snapcore.node.acquire import NoSource
from snapcore.node.arrivals import Arrivals
from snapcore.node.bases import Base, find_base
from snapcore.node.blobs import put_blob
from snapcore.node.diffing import diff_snapshot
from snapcore.node.holding import LeasedWork, leased
from snapcore.node.images import Images
from snapcore.node.recovery import Recovery
from snapcore.node.values import CommitOptions, CommittedImage, UnpackChoice
from snapcore.oci import Descriptor, Digest, Platform, chain_id, parse_config
from snapcore.oci.compose import AddedLayer, compose_config, compose_manifest
from snapcore.oci.descriptor import OCI_CONFIG
from snapcore.snapshots import Kind, Snapshotter
from snapcore.unpack import Events, Workplace

_MAKER: Final = "snapcore images commit"
_SECOND: Final = 10**9


class Committer:
    """Makes images of snapshots of one node.

    Args:
        place: what fetching and unpacking need.
        metadata: the node database.
        images: of the node.
        recovery: fetches what was discarded of the image below.
        arrivals: unpacks and records the new one.
    """

    def __init__(
        self,
        place: Workplace,
        metadata: Metadata,
        images: Images,
        recovery: Recovery,
        arrivals: Arrivals,
    ) -> None:
        self._place: Final = place
        self._metadata: Final = metadata
        self._images: Final = images
        self._recovery: Final = recovery
        self._arrivals: Final = arrivals

    async def commit(
        self,
        snapshotter: Snapshotter,
        key: str,
        name: str,
        options: CommitOptions,
        events: Events,
    ) -> CommittedImage:
        """Make an image; see `Node.commit`.

        Args:
            snapshotter: has the snapshot.
            key: an Active one, which stays as it is.
            name: of the image.
            options: how.
            events: told what happens.
        """
        base = await trio.to_thread.run_sync(self._prepare, snapshotter, key, name, options)
        with leased(self._metadata, self._place.owner, trio.from_thread.check_cancelled) as work:
            below = [replace(base.image, target=base.located.descriptor)] if base else []
            async with self._recovery.whole(below, None, events):
                made = await trio.to_thread.run_sync(
                    self._write, snapshotter, key, name, base, options, work
                )
                # The new layer is nowhere else: whatever is configured, it is not let go.
                choice = UnpackChoice(unpack=options.unpack, discard="never")
                sinks = (snapshotter,) if options.unpack else ()
                await self._arrivals.acquire(
                    *(self._place, name, made.descriptor, NoSource(), choice, sinks, events),
                    move=options.force,
                )
        return made

    def _prepare(
        self, snapshotter: Snapshotter, key: str, name: str, options: CommitOptions
    ) -> Base | None:
        info = snapshotter.stat(key)
        if info.kind is not Kind.ACTIVE:
            raise FailedPrecondition(
                f"snapshot {key!r} is {info.kind}; an image is made of an active one"
                " (images mount --rw, snapshots prepare)"
            )
        # Asked before the work, and again when the name is recorded.
        if not options.force and any(image.name == name for image in self._images.list()):
            raise AlreadyExists(f"image {name!r} exists; choose another name, or use --force")
        mounted = {
            (record.snapshotter, record.key): record.image
            for record in self._metadata.mounts.list()
        }
        preferred = mounted.get((snapshotter.name, key), "")
        return find_base(self._images, self._place.store, info.parent, options.base, preferred)

    def _write(
        self,
        snapshotter: Snapshotter,
        key: str,
        name: str,
        base: Base | None,
        options: CommitOptions,
        work: LeasedWork,
    ) -> CommittedImage:
        """Write layer, config and manifest into the content store; blocks."""
        store = self._place.store
        created = int(time.time()) if options.epoch is None else options.epoch
        # Tried before the layer is made, which may take long.
        _compose(base, options, Digest.of(b""), created)
        layer = self._write_layer(snapshotter, key, options, work)
        data = _compose(base, options, layer.diff_id, created)
        config = Descriptor(OCI_CONFIG, Digest.of(data), len(data))
        below = base.located.manifest.layers if base else ()
        manifest, document = compose_manifest(config, below, layer.descriptor)
        work.content([config.digest, manifest.digest])
        put_blob(store, config, data, {})
        put_blob(store, manifest, document, {})
        chain = chain_id(parse_config(data).diff_ids)
        return CommittedImage(
            name, manifest, config, layer, chain, base.located.descriptor if base else None
        )

    def _write_layer(
        self, snapshotter: Snapshotter, key: str, options: CommitOptions, work: LeasedWork
    ) -> WrittenLayer:
        latest = None if options.epoch is None else options.epoch * _SECOND
        how = DiffOptions(options.compression, latest, trio.from_thread.check_cancelled)
        with self._place.store.ingest(f"commit-{uuid.uuid4().hex}") as ingest:
            try:
                layer = diff_snapshot(snapshotter, key, ingest.write, how, self._place.state, work)
                work.content([layer.descriptor.digest])
                with suppress(AlreadyExists):
                    ingest.commit(labels={labels.UNCOMPRESSED: str(layer.diff_id)})
            finally:
                ingest.abort()
        return layer


def _compose(base: Base | None, options: CommitOptions, diff_id: Digest, created: int) -> bytes:
    moment = dt.datetime.fromtimestamp(created, dt.UTC)
    added = AddedLayer(
        diff_id,
        f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "; ".join((_MAKER, *options.changes)),
        options.author,
        options.comment,
        options.changes,
    )
    return compose_config(base.config if base else None, Platform.local(), added)
