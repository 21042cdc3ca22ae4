"""The unpacker: an image handler that turns layers into committed snapshots on the way.

It follows containerd's unpacker (core/unpack) and knows no backend. Wrapped around the handler
that fetches an image, it holds back the layers of every manifest; when the manifest's config
arrives, it downloads and applies them in every chosen snapshotter, layer by layer:

    prepare (three tries) → wait for the bytes → apply in a worker → commit by chain ID

and labels the config blob, so that garbage collection keeps the snapshots as long as the image.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import trio

from snapcore import labels
from snapcore.archive import ApplyPolicy, Limits
from snapcore.oci import (
    Descriptor,
    Digest,
    is_foreign_layer,
    is_image_config,
    is_manifest,
    parse_config,
)
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.snapshots import Capability, Snapshotter
from snapcore.unpack.discards import Committed, LayerDiscards, drop_references, keep
from snapcore.unpack.events import Events, ImageUnpacked, no_events
from snapcore.unpack.fetching import Fetch, FetchAhead
from snapcore.unpack.forecast import Forecast
from snapcore.unpack.handlers import Handler, read_document
from snapcore.unpack.holding import HOLD_NOTHING, Hold
from snapcore.unpack.layer import LayerUnpacker
from snapcore.unpack.parallel import ParallelUnpacker, can_run_together
from snapcore.unpack.plan import (
    ImagePlan,
    LayerPlan,
    check_space,
    is_committed,
    layer_plans,
    plan_image,
)
from snapcore.unpack.report import LayerReport, layer_reports
from snapcore.unpack.stage import Stage
from snapcore.unpack.workplace import Workplace

# What builders give to manifests of attestations and signatures beside an image.
_NO_PLATFORM: Final = "unknown"


@dataclass(frozen=True, slots=True)
class UnpackOptions:
    """How to unpack.

    Attributes:
        snapshot_labels: more labels for every prepare and commit.
        source: labels that tell lazy backends where the image comes from, `…/cri.image-ref`
            above all; none if it is from nowhere that they could go back to.
        limits: budgets of each layer.
        policy: what happens to owners and devices.
        discard: afterwards drop the references that keep the layer blobs.
        at_once: and let each blob go as soon as its layer is committed everywhere; for pulls of
            one manifest.
        complete: also fetch the layers that every snapshotter has already, unless all of these
            are lazy: what a snapshot was made of may be gone, discarded for another image.
    """

    snapshot_labels: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    policy: ApplyPolicy = field(default_factory=ApplyPolicy)
    discard: bool = False
    at_once: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class UnpackedManifest:
    """What became of one manifest.

    Attributes:
        manifest: its descriptor.
        config: its config's descriptor.
        snapshotters: who has the snapshots; none if it was not unpacked.
        chain_id: name of the top snapshot; "" for an image without layers.
        reason: why it was not unpacked; "" if it was.
        layers: how each of its layers fares in each snapshotter that can supply layers itself.
    """

    manifest: Descriptor
    config: Descriptor
    snapshotters: tuple[str, ...]
    chain_id: str
    reason: str = ""
    layers: tuple[LayerReport, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A manifest whose config has not arrived yet."""

    manifest: Descriptor
    layers: tuple[Descriptor, ...]


class Unpacker:
    """Unpacks every image that passes through its handler, in the chosen snapshotters.

    Use it as an async context manager: leaving the block waits for what is under way, and an
    error in any part cancels the rest.
    """

    def __init__(
        self,
        place: Workplace,
        snapshotters: Sequence[Snapshotter],
        options: UnpackOptions,
        events: Events = no_events,
        hold: Hold = HOLD_NOTHING,
    ) -> None:
        """Make an unpacker.

        Args:
            place: what the node lends.
            snapshotters: who get the layers; each layer is read and inflated once for all.
            options: how to unpack.
            events: is told what happens.
            hold: is told of every snapshot before it is looked for.
        """
        self._hold = hold
        self._store = place.store
        self._snapshotters = tuple(snapshotters)
        self._options = options
        self._events = events
        self._place = place
        self._layers = LayerUnpacker(place, options.limits, options.policy, events)
        self._pending: dict[str, list[_Pending]] = {}
        self._results: list[UnpackedManifest] = []
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)

    @property
    def results(self) -> tuple[UnpackedManifest, ...]:
        """What was unpacked; complete once the `async with` block has been left."""
        return tuple(self._results)

    def wrap(
        self, handler: Handler, fetch: Fetch, chosen: Container[Digest] | None = None
    ) -> Handler:
        """Return a handler that unpacks what passes through.

        Args:
            handler: fetches a descriptor and returns its children.
            fetch: brings one layer into the store.
            chosen: the manifests to unpack; the others are only fetched. None for all.
        """

        async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
            children = await handler(descriptor)
            if is_manifest(descriptor.media_type):
                if chosen is not None and descriptor.digest not in chosen:
                    await self._pass_over(descriptor, "it is for another platform")
                    return children
                return await self._hold_back(descriptor, children)
            for pending in self._pending.pop(str(descriptor.digest), ()):
                self._start(pending, descriptor, fetch)
            return children

        return handle

    async def _hold_back(
        self, manifest: Descriptor, children: tuple[Descriptor, ...]
    ) -> tuple[Descriptor, ...]:
        document = await trio.to_thread.run_sync(read_document, self._store, manifest)
        if document is None or not document.children:
            return children
        config, *layers = document.children
        if manifest.platform is not None and manifest.platform.os == _NO_PLATFORM:
            await self._pass_over(manifest, "it is not an image (platform unknown)")
            return children
        if not is_image_config(config.media_type):
            reason = f"config type {config.media_type!r} is not a container image's"
            self._results.append(UnpackedManifest(manifest, config, (), "", reason))
            return children
        # Keyed by manifest and config: two manifests may share one config, and both count.
        self._pending.setdefault(str(config.digest), []).append(_Pending(manifest, tuple(layers)))
        # Whatever they are: those that cannot be unpacked are refused before any is fetched.
        held = {layer.digest for layer in layers} - {config.digest}
        return tuple(child for child in children if child.digest not in held)

    async def _pass_over(self, manifest: Descriptor, reason: str) -> None:
        document = await trio.to_thread.run_sync(read_document, self._store, manifest)
        if document is not None and document.children:
            config = document.children[0]
            self._results.append(UnpackedManifest(manifest, config, (), "", reason))

    def _start(self, pending: _Pending, config: Descriptor, fetch: Fetch) -> None:
        if self._nursery is None:
            raise RuntimeError("an Unpacker must be entered before its handler is used")
        self._nursery.start_soon(self._unpack, pending, config, fetch)

    async def _unpack(self, pending: _Pending, config: Descriptor, fetch: Fetch) -> None:
        plan = await trio.to_thread.run_sync(self._plan, pending, config)
        discards = LayerDiscards(
            self._store, self._hold, pending.manifest, plan, self._snapshotters, self._events
        )
        committed = discards.committed if self._options.at_once else keep
        try:
            await self._make_layers(plan, fetch, self._image_labels(pending), committed)
        except BaseException:
            # One snapshotter's failure does not take away what the others have whole.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._label_config, config, plan)
                await trio.to_thread.run_sync(discards.restore)
            raise
        await trio.to_thread.run_sync(self._finish, pending, config, plan)

    async def _make_layers(
        self, plan: ImagePlan, fetch: Fetch, image: Mapping[str, str], committed: Committed
    ) -> None:
        stages = [
            [
                self._stage(s, plan, layer, image)
                for s in self._snapshotters
                if plan.lacks(s.name, layer)
            ]
            for layer in plan.holes
        ]
        async with trio.open_nursery() as nursery:
            ahead = FetchAhead(fetch, self._place.downloads, nursery)
            if len(self._snapshotters) == 1 and can_run_together(self._snapshotters[0]):
                ahead.begin(layer.descriptor for layer in plan.holes)
                alone = [stage for (stage,) in stages]
                await ParallelUnpacker(self._layers, committed).unpack(alone, ahead)
            else:
                forecast = Forecast(self._layers, stages, ahead)
                nursery.start_soon(forecast.run)
                for number, layer in enumerate(plan.holes):
                    # Asked at the same time, a snapshotter might look for the same index twice.
                    await forecast.wait(number)
                    await self._layers.unpack(stages[number], ahead)
                    await committed(layer)
            if self._options.complete:
                ahead.begin(await trio.to_thread.run_sync(self._left_out, plan))
            ahead.close()

    def _stage(
        self,
        snapshotter: Snapshotter,
        plan: ImagePlan,
        layer: LayerPlan,
        image: Mapping[str, str],
    ) -> Stage:
        above = [each.descriptor.digest for each in plan.layers[layer.index :]]
        return Stage(self._place, snapshotter, layer, image, above)

    def _plan(self, pending: _Pending, config: Descriptor) -> ImagePlan:
        what = f"image manifest {pending.manifest.digest}"
        parsed = parse_config(self._store.read_blob(config, MAX_DOCUMENT_BYTES))
        layers = layer_plans(parsed, pending.layers, what)
        for snapshotter in self._snapshotters:
            self._hold.snapshots(snapshotter.name, [layer.chain_id for layer in layers])
        plan = plan_image(layers, self._snapshotters)
        check_space(plan, self._store, self._snapshotters)
        return plan

    def _left_out(self, plan: ImagePlan) -> list[Descriptor]:
        """Return the layers that are not here, whoever made them of what."""
        if all(Capability.REMOTE in s.capabilities for s in self._snapshotters):
            return []
        blobs = (layer.descriptor for layer in plan.layers)
        return [
            blob
            for blob in blobs
            if not is_foreign_layer(blob.media_type) and not self._store.exists(blob.digest)
        ]

    def _image_labels(self, pending: _Pending) -> dict[str, str]:
        """Return the labels that every layer's prepare and commit get."""
        image = dict(self._options.snapshot_labels)
        if self._options.source:
            image.update(self._options.source)
            image[labels.CRI_MANIFEST_DIGEST] = str(pending.manifest.digest)
        return image

    def _finish(self, pending: _Pending, config: Descriptor, plan: ImagePlan) -> None:
        self._label_config(config, plan)
        if self._options.discard:
            # The blobs are what the snapshots could be made of again.
            for snapshotter in self._snapshotters:
                snapshotter.make_durable(plan.chain_id)
            digests = [layer.digest for layer in pending.layers]
            drop_references(self._store, pending.manifest, digests)
        names = tuple(snapshotter.name for snapshotter in self._snapshotters)
        remote = [s for s in self._snapshotters if Capability.REMOTE in s.capabilities]
        reports = layer_reports(plan.layers, remote)
        self._results.append(
            UnpackedManifest(pending.manifest, config, names, plan.chain_id, layers=reports)
        )
        for name in names:
            self._events(ImageUnpacked(pending.manifest, name, plan.chain_id))

    def _label_config(self, config: Descriptor, plan: ImagePlan) -> None:
        """Tie the config blob to the top snapshot in each snapshotter that has it."""
        have = [s for s in self._snapshotters if plan.layers and is_committed(s, plan.chain_id)]
        refs = {labels.gc_ref_snapshot(s.name): plan.chain_id for s in have}
        if refs:
            self._store.update(config.digest, refs, tuple(f"labels.{key}" for key in refs))
