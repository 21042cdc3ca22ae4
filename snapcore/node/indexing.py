"""Indexes of an image's layers: made from what is here, kept as content, published as referrers.

Who makes an index, and what it is, is a plugin's affair (hook `snapcore_index`).
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from snapcore import labels
from snapcore.content import ContentStore
from snapcore.errors import NotFound, SnapcoreError, Unimplemented
from snapcore.metadata import CONTENT, Resource
from snapcore.node.blobs import put_blob
from snapcore.node.connection import Access, registry_client
from snapcore.node.values import PullResult
from snapcore.oci import (
    Descriptor,
    Digest,
    Manifest,
    Platform,
    Reference,
    parse_config,
    parse_document,
)
from snapcore.oci.descriptor import OCI_MANIFEST
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry import Artifact
from snapcore.snapshots import IndexBlob, can_index, index_with_plugin, list_plugins
from snapcore.unpack import LayerPlan, child_labels, layer_plans, single_error

if TYPE_CHECKING:
    from snapcore.node.node import Node

_log = logging.getLogger(__name__)
_LIFETIME: Final = 3600 * 10**9
"""Nanoseconds that an interrupted run keeps what it has made."""


@dataclass(frozen=True, slots=True)
class IndexedLayer:
    """What became of one layer.

    Attributes:
        plugin: who was asked.
        layer: the layer's blob.
        index: its index, None if there is none.
        reason: why there is none; "" if there is one.
    """

    plugin: str
    layer: Descriptor
    index: Descriptor | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """What became of an image.

    Attributes:
        reference: its name on this node.
        layers: each of its layers, for each plugin.
        artifacts: what can be published, one for each plugin that made an index.
    """

    reference: str
    layers: tuple[IndexedLayer, ...]
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What is made, and how.

    Attributes:
        platform: of an image for several; this host's for "".
        plugins: who makes indexes; all that can if empty.
        again: make those anew that are kept already.
        quick: rather larger indexes that are made sooner.
        layers: of these layers alone; of all if empty.
    """

    platform: str = ""
    plugins: tuple[str, ...] = ()
    again: bool = False
    quick: bool = False
    layers: frozenset[Digest] = frozenset()


async def index_image(
    node: Node, reference: str, options: IndexOptions | None = None
) -> IndexedImage:
    """Make indexes of an image's layers, whose blobs are here, and keep them as content.

    What is kept of an earlier time is not made again, and its layer need not be here.

    Args:
        node: has the image.
        reference: the image.
        options: see `IndexOptions`.

    Raises:
        NotFound: no such image or plugin, or a layer's blob is not here.
        Unimplemented: nobody makes indexes.
        RefusedInput, DigestMismatch: a layer is damaged.
        SnapcoreError: content cannot be read or written.
    """
    with single_error():
        return await trio.to_thread.run_sync(_index, node, reference, options or IndexOptions())


async def index_pulled(node: Node, result: PullResult, platform: str) -> None:
    """Make indexes of the layers that a pull has unpacked for want of one.

    The pull is done: what goes wrong is told as a warning.

    Args:
        node: has the image.
        result: what the pull did.
        platform: whose manifest; this host's for "".
    """
    for plugin, layers in _unpacked(node.content, result).items():
        options = IndexOptions(platform, (plugin,), quick=True, layers=frozenset(layers))
        try:
            await index_image(node, result.reference, options)
        except SnapcoreError as error:
            _log.warning("no indexes of %r are made for %r: %s", result.reference, plugin, error)


def _unpacked(store: ContentStore, result: PullResult) -> dict[str, set[Digest]]:
    """Return the layers that might have been lazy and are here, by the snapshotters."""
    found: dict[str, set[Digest]] = {}
    for report in itertools.chain.from_iterable(each.layers for each in result.manifests):
        status, digest = report.status, report.layer.digest
        if status is not None and not status.lazy and store.exists(digest):
            found.setdefault(report.snapshotter, set()).add(digest)
    return found


async def publish_indexes(
    node: Node, indexed: IndexedImage, access: Access, environment: Mapping[str, str]
) -> tuple[Descriptor, ...]:
    """Publish what `index_image` made, beside the image that it is about.

    Args:
        node: knows how registries are reached.
        indexed: what was made.
        access: the command's flags.
        environment: proxies, and what credential helpers run with.

    Returns:
        The manifest of each artifact.

    Raises:
        NotFound, PermissionDenied, Unavailable: the registry's answer.
    """
    name = Reference.parse(indexed.reference)
    client = registry_client(node.content, node.config.registry, name.host, access, environment)
    try:
        with single_error():
            return tuple([await client.attach(each, name) for each in indexed.artifacts])
    finally:
        client.close()


def _index(node: Node, reference: str, options: IndexOptions) -> IndexedImage:
    image, platform = node.images.get(reference), options.platform
    located = node.images.locate(image, Platform.parse(platform) if platform else Platform.local())
    config = parse_config(node.content.read_blob(located.manifest.config, MAX_DOCUMENT_BYTES))
    plans = layer_plans(config, located.manifest.layers, f"image {image.name!r}")
    layers = {each.descriptor.digest: each for each in plans}
    if options.layers:
        layers = {digest: plan for digest, plan in layers.items() if digest in options.layers}
    found: list[IndexedLayer] = []
    artifacts: list[Artifact] = []
    for plugin in options.plugins or _makers(node):
        kept = {} if options.again else _kept(node.content, plugin, located.descriptor)
        made: dict[Digest, IndexBlob] = {}
        for digest, plan in layers.items():
            try:
                index = kept.get(digest) or _make(node.content, plugin, plan, quick=options.quick)
            except NotFound as error:
                if not kept:
                    raise
                # It was lazy already when the others were unpacked and got their indexes.
                index = str(error)
            if isinstance(index, str):
                found.append(IndexedLayer(plugin, plan.descriptor, None, index))
            else:
                made[digest] = index
                found.append(IndexedLayer(plugin, plan.descriptor, _descriptor(index)))
        if made:
            artifact = _artifact(located.descriptor, made)
            _keep(node, plugin, artifact, list(made))
            artifacts.append(artifact)
    return IndexedImage(image.name, tuple(found), tuple(artifacts))


def _artifact(manifest: Descriptor, made: Mapping[Digest, IndexBlob]) -> Artifact:
    indexes = list(made.values())
    parts = tuple((_descriptor(index), index.data) for index in indexes)
    return Artifact(indexes[0].artifact_type, manifest, parts)


def _makers(node: Node) -> Sequence[str]:
    blocked = node.config.blocked
    names = [plugin.name for plugin in list_plugins(blocked=blocked) if not plugin.blocked]
    found = [name for name in names if can_index(name, blocked=blocked)]
    if not found:
        raise Unimplemented("no snapshotter that is installed makes indexes of layers")
    return found


def _key(plugin: str) -> str:
    """Return the label of a manifest that keeps the indexes of its layers."""
    return f"{labels.GC_REF_CONTENT}.index.{plugin}"


def _kept(store: ContentStore, plugin: str, manifest: Descriptor) -> dict[Digest, IndexBlob]:
    """Return the indexes that are kept of an earlier time, by the layers that they are of."""
    named = store.info(manifest.digest).labels.get(_key(plugin))
    if named is None:
        return {}
    found: dict[Digest, IndexBlob] = {}
    with suppress(NotFound):
        digest = Digest.parse(named)
        artifact = Descriptor(OCI_MANIFEST, digest, store.info(digest).size)
        document = parse_document(store.read_blob(artifact, MAX_DOCUMENT_BYTES), OCI_MANIFEST)
        assert isinstance(document, Manifest)
        for blob in document.layers:
            layer = store.info(blob.digest).labels.get(labels.INDEX_OF_LAYER)
            if layer is not None:
                data = store.read_blob(blob, blob.size)
                found[Digest.parse(layer)] = IndexBlob(
                    document.artifact_type, blob.media_type, blob.annotations, data
                )
    return found


def _make(store: ContentStore, plugin: str, plan: LayerPlan, *, quick: bool) -> IndexBlob | str:
    """Return a layer's index, or why there is none."""
    digest = plan.descriptor.digest
    try:
        blob = store.open_blob(digest)
    except NotFound as error:
        raise NotFound(
            f"layer {digest} is not in the content store; pull the image with --no-unpack"
        ) from error
    try:
        return index_with_plugin(plugin, blob, plan.descriptor, plan.diff_id, quick=quick)
    except Unimplemented as error:
        return str(error)
    finally:
        os.close(blob)


def _descriptor(blob: IndexBlob) -> Descriptor:
    return Descriptor(blob.media_type, Digest.of(blob.data), len(blob.data), dict(blob.annotations))


def _keep(node: Node, plugin: str, artifact: Artifact, layers: Sequence[Digest]) -> None:
    """Put an artifact into the content store, as long as the manifest is that it is about."""
    store, blobs = node.content, [blob for blob, _ in artifact.blobs]
    manifest, key = artifact.descriptor, _key(plugin)
    with _held(node, [manifest, artifact.subject, *blobs]):
        for (blob, data), layer in zip(artifact.blobs, layers, strict=True):
            put_blob(store, blob, data, {labels.INDEX_OF_LAYER: str(layer)})
        put_blob(store, manifest, artifact.manifest, child_labels(blobs))
        store.update(artifact.subject.digest, {key: str(manifest.digest)}, (f"labels.{key}",))


@contextmanager
def _held(node: Node, blobs: Sequence[Descriptor]) -> Iterator[None]:
    lease = node.leases.create(lifetime=_LIFETIME)
    try:
        node.garbage.hold(lease.id, [Resource(CONTENT, str(blob.digest)) for blob in blobs])
        yield
    finally:
        node.leases.delete(lease.id)
