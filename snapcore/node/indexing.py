"""Indexes of an image's layers: made from what is here, kept as content, published as referrers.

Who makes an index, and what it is, is a plugin's affair (hook `snapcore_index`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from snapcore import labels
from snapcore.content import ContentStore
from snapcore.errors import NotFound, Unimplemented
from snapcore.metadata import CONTENT, Resource
from snapcore.node.blobs import put_blob
from snapcore.node.connection import Access, registry_client
from snapcore.node.node import Node
from snapcore.oci import Descriptor, Digest, Platform, Reference, parse_config
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry import Artifact
from snapcore.snapshots import IndexBlob, can_index, index_with_plugin, list_plugins
from snapcore.unpack import LayerPlan, child_labels, layer_plans, single_error

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


async def index_image(
    node: Node, reference: str, *, platform: str = "", plugins: Sequence[str] = ()
) -> IndexedImage:
    """Make indexes of an image's layers, whose blobs are here, and keep them as content.

    Args:
        node: has the image.
        reference: the image.
        platform: of an image for several; this host's for "".
        plugins: who makes them; all that can if empty.

    Raises:
        NotFound: no such image or plugin, or a layer's blob is not here.
        Unimplemented: nobody makes indexes.
        RefusedInput, DigestMismatch: a layer is damaged.
        SnapcoreError: content cannot be read or written.
    """
    with single_error():
        return await trio.to_thread.run_sync(_index, node, reference, platform, plugins)


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


def _index(node: Node, reference: str, platform: str, plugins: Sequence[str]) -> IndexedImage:
    image = node.images.get(reference)
    located = node.images.locate(image, Platform.parse(platform) if platform else Platform.local())
    config = parse_config(node.content.read_blob(located.manifest.config, MAX_DOCUMENT_BYTES))
    plans = layer_plans(config, located.manifest.layers, f"image {image.name!r}")
    found: list[IndexedLayer] = []
    artifacts: list[Artifact] = []
    for plugin in plugins or _makers(node):
        blobs: list[IndexBlob] = []
        for plan in {each.descriptor.digest: each for each in plans}.values():
            made = _make(node.content, plugin, plan)
            if isinstance(made, str):
                found.append(IndexedLayer(plugin, plan.descriptor, None, made))
            else:
                blobs.append(made)
                found.append(IndexedLayer(plugin, plan.descriptor, _descriptor(made)))
        if blobs:
            parts = tuple((_descriptor(blob), blob.data) for blob in blobs)
            artifact = Artifact(blobs[0].artifact_type, located.descriptor, parts)
            _keep(node, plugin, artifact)
            artifacts.append(artifact)
    return IndexedImage(image.name, tuple(found), tuple(artifacts))


def _makers(node: Node) -> Sequence[str]:
    blocked = node.config.blocked
    names = [plugin.name for plugin in list_plugins(blocked=blocked) if not plugin.blocked]
    found = [name for name in names if can_index(name, blocked=blocked)]
    if not found:
        raise Unimplemented("no snapshotter that is installed makes indexes of layers")
    return found


def _make(store: ContentStore, plugin: str, plan: LayerPlan) -> IndexBlob | str:
    """Return a layer's index, or why there is none."""
    digest = plan.descriptor.digest
    try:
        blob = store.open_blob(digest)
    except NotFound as error:
        raise NotFound(
            f"layer {digest} is not in the content store; pull the image with --no-unpack"
        ) from error
    try:
        return index_with_plugin(plugin, blob, plan.descriptor, plan.diff_id)
    except Unimplemented as error:
        return str(error)
    finally:
        os.close(blob)


def _descriptor(blob: IndexBlob) -> Descriptor:
    return Descriptor(blob.media_type, Digest.of(blob.data), len(blob.data), dict(blob.annotations))


def _keep(node: Node, plugin: str, artifact: Artifact) -> None:
    """Put an artifact into the content store, as long as the manifest is that it is about."""
    store, blobs = node.content, [blob for blob, _ in artifact.blobs]
    manifest = artifact.descriptor
    key = f"{labels.GC_REF_CONTENT}.index.{plugin}"
    with _held(node, [manifest, artifact.subject, *blobs]):
        for blob, data in artifact.blobs:
            put_blob(store, blob, data, {})
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
