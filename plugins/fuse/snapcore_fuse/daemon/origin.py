"""From a layer's name to its index: the manifest, the choice of a format, and the reads."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, Generic, TypeVar

import trio

from snapcore.archive import Limits
from snapcore.errors import InvalidArgument, SnapcoreError
from snapcore.oci import Descriptor, Digest, Manifest, Reference, parse_config, parse_document
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry import RangePatience
from snapcore_fuse.daemon.messages import Layer
from snapcore_fuse.daemon.registries import Registries
from snapcore_fuse.formats import (
    MEDIA_TYPE,
    TOC_DIGEST,
    BlobRange,
    LayerFormat,
    LayerIndex,
    LayerSource,
    LazySettings,
    load_index,
    open_estargz,
    plan_layer,
)
from snapcore_fuse.published import ARTIFACT_TYPE, LAYER_ANNOTATION
from snapcore_fuse.settings import IndexTrust, Settings

MAX_INDEX_BYTES: Final = 64 << 20
"""A larger index would cost more than it saves."""
_INDEXES_AT_A_TIME: Final = 4
_MOST_ARTIFACTS: Final = 8
_T = TypeVar("_T")


class NoIndex(Exception):
    """A signal, not a failure: the layer cannot be lazy. Its text is the reason."""


class Origin:
    """Goes to registries for manifests and indexes. For one trio run.

    Args:
        registries: how they are reached.
        settings: what the operator chose.
        limits: budgets of a layer.
    """

    def __init__(self, registries: Registries, settings: Settings, limits: Limits) -> None:
        self._registries: Final = registries
        self._settings: Final = settings
        self._limits: Final = limits
        self._manifests: Final[dict[str, Manifest]] = {}
        self._one_manifest: Final = trio.Lock()
        self._lists: Final[dict[str, Mapping[str, Descriptor]]] = {}
        self._one_list: Final = trio.Lock()
        self._places: Final = trio.CapacityLimiter(_INDEXES_AT_A_TIME)

    async def index(self, layer: Layer) -> tuple[Descriptor, LayerIndex, bytes]:
        """Return a layer's blob, as its manifest describes it, its index, and that as bytes.

        Raises:
            NoIndex: it has none, or none that may be believed, or is too small to pay.
            RefusedInput, DigestMismatch: what is served as its index is not one.
            SnapcoreError: the registry cannot be reached, or refuses.
        """
        async with self._places:
            manifest = await self._manifest(layer)
            descriptor = _find(manifest, layer)
            plan = plan_layer(descriptor, LazySettings(self._settings.min_layer_size))
            if plan.format is None:
                raise NoIndex(plan.reason)
            source = LayerSource(
                descriptor.digest,
                descriptor.size,
                descriptor.media_type,
                Digest.parse(layer.diff_id),
            )
            if plan.format is LayerFormat.ESTARGZ:
                toc = _digest(descriptor.annotations[TOC_DIGEST])
                reading = open_estargz(source, toc, self._limits)
                index = await self._read(layer, descriptor, reading)
                return descriptor, index, await trio.to_thread.run_sync(index.to_bytes)
            return descriptor, *await self._published(layer, source, plan.format)

    async def diff_ids(self, layer: Layer) -> dict[str, str]:
        """Return the diff IDs of a layer's image by the digests of its layers.

        Raises:
            NoIndex: config and manifest do not fit each other.
            SnapcoreError: the registry cannot be reached, or refuses.
        """
        manifest = await self._manifest(layer)
        client, reference = self._registries.client(layer), Reference.parse(layer.image)
        await client.fetch(manifest.config, reference)
        data = await trio.to_thread.run_sync(
            self._registries.document, manifest.config, MAX_DOCUMENT_BYTES
        )
        found = parse_config(data).diff_ids
        if len(found) != len(manifest.layers):
            raise NoIndex(f"the config of {layer.manifest} has {len(found)} diff IDs")
        pairs = zip(manifest.layers, found, strict=True)
        return {str(blob.digest): str(diff_id) for blob, diff_id in pairs}

    async def _manifest(self, layer: Layer) -> Manifest:
        # Many layers of one image ask at the same time, and one request does.
        async with self._one_manifest:
            if layer.manifest not in self._manifests:
                named = Reference.parse(layer.image)
                reference = Reference(named.host, named.repository, digest=_digest(layer.manifest))
                found, data = await self._registries.client(layer).resolve(reference)
                document = parse_document(data, found.media_type)
                if not isinstance(document, Manifest):
                    raise NoIndex(f"{layer.manifest} is not the manifest of one image")
                self._manifests[layer.manifest] = document
            return self._manifests[layer.manifest]

    async def _read(
        self, layer: Layer, blob: Descriptor, reading: Generator[BlobRange, bytes, _T]
    ) -> _T:
        """Get a parser the ranges that it asks for, and return what it makes of them."""
        patience = RangePatience(deadline=self._settings.deadline)
        client = self._registries.client(layer)
        ranges = await client.ranges(blob, Reference.parse(layer.image), patience)
        wanted = next(reading)
        while True:
            data = await ranges.read(wanted.offset, wanted.size)
            try:
                # Parsing a large table takes long, and the loop serves all mounts.
                step = await trio.to_thread.run_sync(_step, reading, data)
            except SnapcoreError:
                ranges.distrust()
                raise
            if isinstance(step, _Result):
                return step.value
            wanted = step

    async def _published(
        self, layer: Layer, source: LayerSource, wanted: LayerFormat
    ) -> tuple[LayerIndex, bytes]:
        trust = self._settings.index_trust
        pinned = Reference.parse(layer.image).digest is not None
        if trust is IndexTrust.NEVER or (trust is IndexTrust.TAG and pinned):
            raise NoIndex(
                f"its manifest names no index, and index_trust = {trust.value!r} forbids others"
                + " for an image that was pulled by digest" * (trust is IndexTrust.TAG)
            )
        blob = (await self._published_blobs(layer)).get(layer.digest)
        if blob is None:
            raise NoIndex("no index is published for it")
        if blob.size > MAX_INDEX_BYTES:
            raise NoIndex(f"its index of {blob.size} bytes is larger than {MAX_INDEX_BYTES}")
        await self._registries.client(layer).fetch(blob, Reference.parse(layer.image))
        data = await trio.to_thread.run_sync(self._registries.document, blob, MAX_INDEX_BYTES)
        index = await trio.to_thread.run_sync(load_index, data, wanted, source, self._limits)
        return index, data

    async def _published_blobs(self, layer: Layer) -> Mapping[str, Descriptor]:
        """Return the indexes that are published for an image, by the layers they are of."""
        async with self._one_list:
            if layer.manifest not in self._lists:
                self._lists[layer.manifest] = await self._list(layer)
            return self._lists[layer.manifest]

    async def _list(self, layer: Layer) -> dict[str, Descriptor]:
        client, named = self._registries.client(layer), Reference.parse(layer.image)
        subject = _digest(layer.manifest)
        found: dict[str, Descriptor] = {}
        for artifact in (await client.referrers(named, subject, ARTIFACT_TYPE))[:_MOST_ARTIFACTS]:
            reference = Reference(named.host, named.repository, digest=artifact.digest)
            described, data = await client.resolve(reference)
            document = parse_document(data, described.media_type)
            for blob in document.children:
                if blob.media_type == MEDIA_TYPE and LAYER_ANNOTATION in blob.annotations:
                    found.setdefault(blob.annotations[LAYER_ANNOTATION], blob)
        return found


class _Result(Generic[_T]):
    __slots__ = ("value",)

    def __init__(self, value: _T) -> None:
        self.value: Final = value


def _step(reading: Generator[BlobRange, bytes, _T], data: bytes) -> BlobRange | _Result[_T]:
    try:
        return reading.send(data)
    except StopIteration as stop:
        return _Result(stop.value)


def _find(manifest: Manifest, layer: Layer) -> Descriptor:
    for descriptor in manifest.layers:
        if str(descriptor.digest) == layer.digest:
            return descriptor
    raise NoIndex(f"manifest {layer.manifest} names no layer {layer.digest}")


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidArgument as error:
        raise NoIndex(str(error)) from error
