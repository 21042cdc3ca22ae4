"""Layer blobs that go as soon as their layer is unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.faults import FakeRegistry, status
from support.layout import File, LayoutBuilder, tar_of
from support.nodes import serve

from snapcore.archive import tree_digest
from snapcore.config import Discard, NodeConfig
from snapcore.errors import SnapcoreError
from snapcore.node import Node, PullOptions, UnpackChoice
from snapcore.oci import Digest, Platform, is_layer
from snapcore.unpack import Event, LayerDone

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]
BACKENDS = [("native",), ("overlay",), ("native", "overlay")]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    """Serve an image whose first layer comes twice, and another that shares its second."""
    builder = LayoutBuilder(tmp_path / "layout")
    twice = builder.add_layer(tar_of(File("etc/", mode=0o755), File("etc/a", b"a" * 5000)))
    shared = builder.add_layer(tar_of(File("etc/b", b"b" * 5000)))
    last = builder.add_layer(tar_of(File("etc/c", b"c" * 5000)))
    builder.add_image("one", [twice, shared, twice, last])
    builder.add_image("two", [shared])
    with FakeRegistry() as opened:
        serve(opened, builder)
        yield opened


@pytest.fixture
def node(tmp_path: Path, registry: FakeRegistry) -> Iterator[Node]:
    config = NodeConfig.at(str(tmp_path / "root"))
    reach = replace(config.registry, plain_http=(registry.host,))
    with Node.open(replace(config, registry=reach)) as opened:
        yield opened


def pull(
    node: Node,
    registry: FakeRegistry,
    tag: str,
    backends: tuple[str, ...],
    discard: Discard = "after-layer",
) -> tuple[str, list[Event]]:
    told: list[Event] = []
    options = PullOptions(UnpackChoice(snapshotters=backends, discard=discard))
    name = f"{registry.host}/app:{tag}"
    trio.run(lambda: node.pull(name, options, events=told.append))
    return name, told


def layers(node: Node, name: str) -> set[Digest]:
    required = node.images.check(name, Platform.local()).required
    return {blob.digest for blob in required if is_layer(blob.media_type)}


def present(node: Node) -> set[Digest]:
    return {info.digest for info in node.content.walk()}


@pytest.mark.parametrize("backends", BACKENDS)
def test_layer_blobs_are_gone_and_the_image_is_whole(
    node: Node, registry: FakeRegistry, backends: tuple[str, ...]
) -> None:
    name, told = pull(node, registry, "one", backends)
    assert len([event for event in told if isinstance(event, LayerDone)]) == 4 * len(backends)
    check = node.images.check(name, Platform.local())
    assert (check.status, len(layers(node, name))) == ("discarded", 3)
    assert present(node) & layers(node, name) == set()
    assert node.leases.list() == ()
    assert node.garbage.collect().removed == ()
    digests = set()
    for backend in backends:
        with node.mounted(name, snapshotter=backend) as directory:
            digests.add(str(tree_digest(directory).digest))
    assert len(digests) == 1


@pytest.mark.parametrize("backends", BACKENDS)
def test_what_another_image_needs_stays(
    node: Node, registry: FakeRegistry, backends: tuple[str, ...]
) -> None:
    other, _ = pull(node, registry, "two", backends, "never")
    name, _ = pull(node, registry, "one", backends)
    shared = layers(node, other)
    assert present(node) & layers(node, name) == shared
    node.images.remove(other)
    node.garbage.collect()
    assert present(node) & layers(node, name) == set()


@pytest.mark.parametrize("holder", ["lease", "root"])
def test_what_somebody_holds_stays(node: Node, registry: FakeRegistry, holder: str) -> None:
    other, _ = pull(node, registry, "two", (), "never")
    (shared,) = layers(node, other)
    if holder == "lease":
        from snapcore.metadata import Resource

        node.garbage.hold(node.leases.create("mine").id, [Resource("content", str(shared))])
    else:
        node.content.update(
            shared, {"containerd.io/gc.root": "x"}, ("labels.containerd.io/gc.root",)
        )
    node.images.remove(other)
    name, _ = pull(node, registry, "one", ("native",))
    assert present(node) & layers(node, name) == {shared}


def test_references_come_back_if_the_pull_fails(node: Node, registry: FakeRegistry) -> None:
    name, _ = pull(node, registry, "one", (), "never")
    manifest = node.images.get(name).target
    wanted = layers(node, name)
    before = dict(node.content.info(manifest.digest).labels)
    last = node.images.check(name, Platform.local())
    last_layer = [b for b in last.required if is_layer(b.media_type)][-1]
    for digest in wanted:
        node.content.delete(digest)
    registry.spoil(f"blobs/{last_layer.digest}", *[status(404)] * 9)
    with pytest.raises(SnapcoreError, match=str(last_layer.digest)):
        pull(node, registry, "one", ("native",))
    assert dict(node.content.info(manifest.digest).labels) == before
    assert node.leases.list() == ()
