"""Plain layers with a published index: made by one node, believed or not by another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import call
from support.images import File, tar_of, whiteout
from support.layout import Layer
from support.lazyimages import BIG, LazyPlace, estargz_layer, lazy_place
from support.nodes import until
from support.referrers import ReferrersRegistry

from snapcore import labels
from snapcore.archive import Limits, tree_digest
from snapcore.mount import mounts_below
from snapcore.node import (
    IndexedImage,
    IndexOptions,
    Node,
    PullOptions,
    UnpackChoice,
    index_image,
    publish_indexes,
)
from snapcore.oci import Descriptor, Digest, Platform
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.registry import Artifact
from snapcore_fuse.formats import MEDIA_TYPE, LayerSource, SpanIndex, build_index
from snapcore_fuse.published import ARTIFACT_TYPE, LAYER_ANNOTATION

pytestmark = [pytest.mark.needs_root, pytest.mark.anyio]

BASE = (
    File("etc/", mode=0o755),
    File("etc/motd", b"hello\n"),
    File("usr/bin/", mode=0o755),
    File("bin", link="usr/bin"),
    File("usr/bin/tool", b"#!/bin/sh\n", mode=0o4755),
    File("big", BIG * 8),
)
TOP = (whiteout("etc/motd"), File("bin/other", hardlink="usr/bin/tool"), File("more", BIG))


@pytest.fixture(params=[True, False], ids=["referrers-api", "tag-schema"])
def place(request: pytest.FixtureRequest, tmp_path: Path, census: None) -> Iterator[LazyPlace]:
    with lazy_place(tmp_path, registry=ReferrersRegistry(tracks=request.param)) as made:
        yield made
    assert mounts_below(str(tmp_path)) == ()


def two_layers(place: LazyPlace) -> tuple[Layer, Layer]:
    layers = (
        place.builder.add_layer(tar_of(*BASE), "gzip"),
        place.builder.add_layer(tar_of(*TOP), "none"),
    )
    place.publish(*layers)
    return layers


def maker(place: LazyPlace) -> str:
    """Return the root of another node."""
    return str(place.directory / "maker")


async def publish(place: LazyPlace) -> tuple[Layer, Layer]:
    """Put an image of two plain layers into the registry, and its indexes beside it."""
    layers = two_layers(place)
    access = PullOptions(choice=UnpackChoice(unpack=False), plain_http=True)
    with Node.open(place.config(maker(place))) as node:
        await node.pull(place.name, access)
        made = await index_image(node, place.name)
        assert [layer.reason for layer in made.layers] == ["", ""]
        assert len(await publish_indexes(node, made, access, {})) == 1
    return layers


async def pull(node: Node, place: LazyPlace, name: str = "") -> list[tuple[bool, str]]:
    name = name or place.name
    await node.pull(name, PullOptions(plain_http=True))
    reports = node.images.status(name, Platform.local(), ("fuse",))
    found = [report.status for report in reports]
    return [(status.lazy, status.format or status.reason) for status in found if status]


async def test_plain_layers_are_lazy_by_an_index_that_another_node_published(
    place: LazyPlace,
) -> None:
    layers = await publish(place)
    before = [place.fetched(layer) for layer in layers]
    with place.node("fuse", "overlay") as node:
        await node.pull(
            place.name,
            PullOptions(choice=UnpackChoice(snapshotters=("fuse",)), plain_http=True),
        )
        assert [place.fetched(layer) for layer in layers] == before
        assert await pull(node, place) == [(True, "gzip-spans"), (True, "tar")]
        digests = []
        for name in ("fuse", "overlay"):
            with node.mounted(place.name, snapshotter=name) as root:
                digests.append(tree_digest(root))
        assert digests[0] == digests[1]


async def test_an_image_pulled_by_digest_believes_it_only_when_told(place: LazyPlace) -> None:
    await publish(place)
    with place.node() as node:
        await pull(node, place)
        digest = node.images.get(place.name).target.digest
        for info in sorted(node.snapshotter("fuse").walk(), key=lambda i: i.parent, reverse=True):
            node.snapshotter("fuse").remove(info.name)
        pinned = f"{place.registry.host}/repo@{digest}"
        assert all(not lazy and "by digest" in why for lazy, why in await pull(node, place, pinned))
    place.options["index_trust"] = "always"
    with place.node() as node:
        for info in sorted(node.snapshotter("fuse").walk(), key=lambda i: i.parent, reverse=True):
            node.snapshotter("fuse").remove(info.name)
        assert [lazy for lazy, _ in await pull(node, place, pinned)] == [True, True]


async def test_a_pull_makes_the_indexes_of_what_it_unpacks_if_told(
    place: LazyPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = (
        place.builder.add_layer(tar_of(*BASE), "gzip"),
        place.builder.add_layer(tar_of(*TOP), "none"),
        estargz_layer(place.builder, File("lazy", BIG)),
    )
    place.publish(*layers)
    config = place.config(maker(place), "fuse")
    config = replace(config, unpack=replace(config.unpack, index="pull"))
    access = PullOptions(plain_http=True)
    with Node.open(config) as node:
        fates = [why for _, why in await pull(node, place)]
        assert ["no index" in why for why in fates] == [True, True, False]
        node.garbage.collect()
        # Each layer is read a second time by nobody, and need not even be there any more.
        monkeypatch.setattr("snapcore_fuse.published.make_index", None)
        made = await index_image(node, place.name)
        assert [layer.index is not None for layer in made.layers] == [True, True, False]
        assert "not in the content store" in made.layers[2].reason
        assert len(await publish_indexes(node, made, access, {})) == 1
        node.images.remove(place.name)
        node.garbage.collect()
        assert node.content.usage().blobs == 0
    with place.node() as node:
        formats = ["gzip-spans", "tar", "estargz"]
        assert await pull(node, place) == [(True, each) for each in formats]
        with node.mounted(place.name) as root:
            assert Path(root, "more").read_bytes() == BIG
        assert not any(node.content.exists(layer.descriptor.digest) for layer in layers)


async def test_an_index_is_kept_as_long_as_its_manifest(place: LazyPlace) -> None:
    await publish(place)
    with Node.open(place.config(maker(place))) as node:
        told = node.content.info(node.images.get(place.name).target.digest).labels
        assert labels.GC_REF_CONTENT + ".index.fuse" in told
        before = node.content.usage().blobs
        node.garbage.collect()
        assert node.content.usage().blobs == before
        # Made again, it is the same.
        await index_image(node, place.name, IndexOptions(again=True))
        assert node.content.usage().blobs == before
        node.images.remove(place.name)
        node.garbage.collect()
        assert node.content.usage().blobs == 0


def test_the_verb_makes_and_publishes(place: LazyPlace) -> None:
    two_layers(place)
    node = ("--root", maker(place))
    pulled = call(*node, "pull", "--plain-http", "--no-unpack", place.name)
    assert pulled.code == 0, pulled.err
    verb = ("images", "index", "--push", "--plain-http", place.name)
    rows = call(*node, "--format", "json", *verb).records()
    assert [(row["plugin"], row["published"], row["reason"]) for row in rows] == [
        ("fuse", True, "")
    ] * 2
    assert place.registry.requests("/manifests/sha256-" if not tracks(place) else "/manifests/")
    missing = call("--root", str(place.root), "images", "index", place.name)
    assert missing.code == 3
    assert "no image" in missing.err


def tracks(place: LazyPlace) -> bool:
    assert isinstance(place.registry, ReferrersRegistry)
    return place.registry._tracks


async def test_what_is_no_index_of_the_layer_leaves_it_to_be_unpacked(place: LazyPlace) -> None:
    layers = (place.builder.add_layer(tar_of(*BASE)), place.builder.add_layer(tar_of(*TOP)))
    place.publish(*layers)
    forged = (b"no index at all", b"snapidx\x01" + bytes(64))
    with place.node() as node:
        manifest = place.builder.add_image("again", layers)
        parts = tuple(
            (Descriptor(MEDIA_TYPE, Digest.of(data), len(data), named(layer)), data)
            for layer, data in zip(layers, forged, strict=True)
        )
        made = IndexedImage(place.name, (), (Artifact(ARTIFACT_TYPE, manifest, parts),))
        await publish_indexes(node, made, PullOptions(plain_http=True), {})
        assert [lazy for lazy, _ in await pull(node, place)] == [False, False]
        with node.mounted(place.name) as root:
            assert Path(root, "more").read_bytes() == BIG


def named(layer: Layer) -> dict[str, str]:
    return {LAYER_ANNOTATION: str(layer.descriptor.digest)}


async def test_an_index_that_lies_is_found_out_when_the_layer_is_complete(
    place: LazyPlace,
) -> None:
    place.options["complete"] = True
    layer = place.builder.add_layer(tar_of(File("tool", BIG, mode=0o755)))
    manifest = place.builder.add_image("latest", [layer])
    place.publish(layer)
    data = lie_about(place, layer, tar_of(File("tool", BIG, mode=0o4755)))
    index = Descriptor(MEDIA_TYPE, Digest.of(data), len(data), named(layer))
    made = IndexedImage(place.name, (), (Artifact(ARTIFACT_TYPE, manifest, ((index, data),)),))
    with place.node() as node:
        await publish_indexes(node, made, PullOptions(plain_http=True), {})
        await pull(node, place)

        def error() -> str:
            (report,) = node.images.status(place.name, Platform.local(), ("fuse",))
            return report.status.error if report.status else ""

        until(lambda: "does not tell the truth" in error(), "the lie is found out")
    place.kill_daemon()
    with (
        place.node() as node,
        node.mounted(place.name) as root,
        pytest.raises(OSError, match="Input/output error"),
    ):
        Path(root, "tool").read_bytes()


async def test_an_index_that_tells_the_truth_stands_when_the_layer_is_complete(
    place: LazyPlace,
) -> None:
    place.options["complete"] = True
    await publish(place)
    with place.node() as node:
        await pull(node, place)

        def complete() -> bool:
            reports = node.images.status(place.name, Platform.local(), ("fuse",))
            assert not [r.status.error for r in reports if r.status and r.status.error]
            return all(report.status and report.status.complete for report in reports)

        until(complete, "both layers are complete")


def lie_about(place: LazyPlace, layer: Layer, told: bytes) -> bytes:
    """Return an index with the spans of a layer and the entries of another tar."""
    blob = layer.descriptor
    source = LayerSource(blob.digest, blob.size, blob.media_type, layer.diff_id)
    honest = build_index([place.builder.blob_path(blob.digest).read_bytes()], source, Limits())
    other = LayerSource(Digest.of(told), len(told), OCI_LAYER, Digest.of(told))
    entries = build_index([told], other, Limits())._entries
    return SpanIndex(source, honest._spans, entries, Limits()).to_bytes()
