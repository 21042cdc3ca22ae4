"""The unpacker: an image handler that turns layers into committed snapshots on the way.

It follows containerd's unpacker (core/unpack) and knows no backend. Wrapped around the handler
that fetches an image, it holds back the layers of every manifest; when the manifest's config
arrives, it downloads and applies them for one snapshotter, layer by layer:

    prepare (three tries) → wait for the bytes → apply in a worker → commit by chain ID

and labels the config blob, so that garbage collection keeps the snapshots as long as the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trio

from snapcore import labels
from snapcore.archive import ApplyPolicy, Limits
from snapcore.content import ContentStore
from snapcore.oci import (
    Descriptor,
    is_image_config,
    is_layer,
    is_manifest,
    parse_config,
)
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.snapshots import Capability, Snapshotter
from snapcore.unpack.events import Events, ImageUnpacked, no_events
from snapcore.unpack.fetching import Fetch, FetchAhead
from snapcore.unpack.handlers import Handler, read_document
from snapcore.unpack.layer import LayerUnpacker
from snapcore.unpack.parallel import ParallelUnpacker, can_run_together
from snapcore.unpack.plan import ImagePlan, check_space, layer_plans, plan_image
from snapcore.unpack.stage import Stage
from snapcore.unpack.workplace import Workplace


@dataclass(frozen=True, slots=True)
class UnpackOptions:
    """How to unpack.

    Attributes:
        snapshot_labels: more labels for every prepare and commit.
        source: where the image comes from, for lazy backends (`…/cri.image-ref`); "" if nowhere.
        limits: budgets of each layer.
        policy: what happens to owners and devices.
        discard: afterwards drop the references that keep the layer blobs.
    """

    snapshot_labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    limits: Limits = field(default_factory=Limits)
    policy: ApplyPolicy = field(default_factory=ApplyPolicy)
    discard: bool = False


@dataclass(frozen=True, slots=True)
class UnpackedManifest:
    """What became of one manifest.

    Attributes:
        manifest: its descriptor.
        config: its config's descriptor.
        snapshotter: who has the snapshots; "" if it was not unpacked.
        chain_id: name of the top snapshot; "" for an image without layers.
        reason: why it was not unpacked; "" if it was.
    """

    manifest: Descriptor
    config: Descriptor
    snapshotter: str
    chain_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A manifest whose config has not arrived yet."""

    manifest: Descriptor
    layers: tuple[Descriptor, ...]


class Unpacker:
    """Unpacks every image that passes through its handler, for one snapshotter.

    Use it as an async context manager: leaving the block waits for what is under way, and an
    error in any part cancels the rest.
    """

    def __init__(
        self,
        place: Workplace,
        snapshotter: Snapshotter,
        options: UnpackOptions,
        events: Events = no_events,
    ) -> None:
        """Make an unpacker.

        Args:
            place: what the node lends.
            snapshotter: who gets the layers.
            options: how to unpack.
            events: is told what happens.
        """
        self._store = place.store
        self._downloads = place.downloads
        self._snapshotter = snapshotter
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

    def wrap(self, handler: Handler, fetch: Fetch) -> Handler:
        """Return a handler that unpacks what passes through.

        Args:
            handler: fetches a descriptor and returns its children.
            fetch: brings one layer into the store.
        """

        async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
            children = await handler(descriptor)
            if is_manifest(descriptor.media_type):
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
        if not is_image_config(config.media_type):
            reason = f"config type {config.media_type!r} is not a container image's"
            self._results.append(UnpackedManifest(manifest, config, "", "", reason))
            return children
        # Keyed by manifest and config: two manifests may share one config, and both count.
        self._pending.setdefault(str(config.digest), []).append(_Pending(manifest, tuple(layers)))
        held = {layer.digest for layer in layers}
        return tuple(c for c in children if c.digest not in held or not is_layer(c.media_type))

    def _start(self, pending: _Pending, config: Descriptor, fetch: Fetch) -> None:
        if self._nursery is None:
            raise RuntimeError("an Unpacker must be entered before its handler is used")
        self._nursery.start_soon(self._unpack, pending, config, fetch)

    async def _unpack(self, pending: _Pending, config: Descriptor, fetch: Fetch) -> None:
        plan = await trio.to_thread.run_sync(self._plan, pending, config)
        image = self._image_labels(pending)
        async with trio.open_nursery() as nursery:
            eager = Capability.REMOTE not in self._snapshotter.capabilities
            ahead = FetchAhead(fetch, self._downloads, nursery, eager=eager)
            ahead.begin([layer.descriptor for layer in plan.holes])
            stages = [Stage(self._place, self._snapshotter, layer, image) for layer in plan.holes]
            if can_run_together(self._snapshotter):
                await ParallelUnpacker(self._layers).unpack(stages, ahead)
            else:
                for stage in stages:
                    await self._layers.unpack(stage, ahead)
        await trio.to_thread.run_sync(self._finish, pending, config, plan)

    def _plan(self, pending: _Pending, config: Descriptor) -> ImagePlan:
        what = f"image manifest {pending.manifest.digest}"
        parsed = parse_config(self._store.read_blob(config, MAX_DOCUMENT_BYTES))
        plan = plan_image(layer_plans(parsed, pending.layers, what), self._snapshotter)
        check_space(
            plan,
            self._store,
            {"content": self._store.root, "snapshots": self._snapshotter.root},
        )
        return plan

    def _image_labels(self, pending: _Pending) -> dict[str, str]:
        """Return the labels that every layer's prepare and commit get."""
        image = dict(self._options.snapshot_labels)
        if self._options.source:
            image[labels.CRI_IMAGE_REF] = self._options.source
            image[labels.CRI_MANIFEST_DIGEST] = str(pending.manifest.digest)
        return image

    def _finish(self, pending: _Pending, config: Descriptor, plan: ImagePlan) -> None:
        name = self._snapshotter.name
        if plan.layers:
            key = labels.gc_ref_snapshot(name)
            self._store.update(config.digest, {key: plan.chain_id}, (f"labels.{key}",))
        if self._options.discard:
            discard_layers(self._store, pending.manifest, pending.layers)
        self._results.append(UnpackedManifest(pending.manifest, config, name, plan.chain_id))
        self._events(ImageUnpacked(pending.manifest, name, plan.chain_id))


def discard_layers(
    store: ContentStore, manifest: Descriptor, layers: tuple[Descriptor, ...]
) -> tuple[str, ...]:
    """Drop a manifest's references to its unpacked layers, so that they can be collected.

    Exactly the `containerd.io/gc.ref.content.*` labels whose value is one of these layers go;
    the config's and other children's stay. Nothing to drop means no update.

    Returns:
        The label keys that were dropped.
    """
    unpacked = {str(layer.digest) for layer in layers}
    prefix = f"{labels.GC_REF_CONTENT}."
    keys = tuple(
        key
        for key, value in store.info(manifest.digest).labels.items()
        if key.startswith(prefix) and value in unpacked
    )
    if keys:
        store.update(
            manifest.digest, dict.fromkeys(keys, ""), tuple(f"labels.{key}" for key in keys)
        )
    return keys
