"""Layer blobs that go as soon as their layer is unpacked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.faults import FakeRegistry, stall, status
from support.layout import File, LayoutBuilder, tar_of
from support.nodes import running, serve, until

from snapcore.archive import tree_digest
from snapcore.config import Discard, NodeConfig
from snapcore.errors import SnapcoreError
from snapcore.node import Node, PullOptions, PushOptions, UnpackChoice
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


def test_the_peak_is_lower_by_all_blobs_but_the_last(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "noise")
    noise = [random.Random(n).randbytes(100_000) for n in range(4)]
    blobs = [
        builder.add_layer(tar_of(File(f"etc/{n}", data)), "none") for n, data in enumerate(noise)
    ]
    builder.add_image("noise", blobs)
    peaks = {}
    with FakeRegistry() as registry:
        serve(registry, builder)
        name = f"{registry.host}/app:noise"
        for discard in ("never", "after-image", "after-layer"):
            config = NodeConfig.at(str(tmp_path / discard))
            reach = replace(config.registry, plain_http=(registry.host,))
            options = PullOptions(UnpackChoice(snapshotters=("native",), discard=discard))
            with Node.open(replace(config, registry=reach)) as node:
                peaks[discard] = trio.run(node.pull, name, options).peak_bytes
    assert peaks["never"] == peaks["after-image"]
    # A full copy of all below at each layer: the most is there at the last one.
    early = sum(blob.descriptor.size for blob in blobs[:-1])
    assert peaks["never"] - peaks["after-layer"] == early


def test_a_second_process_has_what_the_first_one_discards(
    node: Node, registry: FakeRegistry
) -> None:
    name, _ = pull(node, registry, "one", (), "never")
    check = node.images.check(name, Platform.local())
    blobs = [blob.digest for blob in check.required if is_layer(blob.media_type)]
    (shared, last) = blobs[1], blobs[-1]
    node.images.remove(name)
    node.garbage.collect()
    registry.spoil(f"blobs/{last}", stall(100))
    flags = ("--plain-http", "--progress", "none")
    asked = len(registry.requests(f"GET /v2/app/blobs/{shared}"))

    def fetches() -> int:
        return len(registry.requests(f"GET /v2/app/blobs/{shared}")) - asked

    path = Path(node.config.root)
    with running(
        path, "--snapshotter", "overlay", "pull", "--discard", "after-layer", *flags, name
    ) as first:
        until(lambda: fetches() == 1, "the first one fetches a layer")
        until(lambda: not node.content.exists(shared), "the first one lets a layer go")
        with running(path, "--snapshotter", "native", "pull", *flags, name) as second:
            until(lambda: fetches() == 2, "the second one fetches it again")
            registry.server.drop_all()
            assert second.wait(60) == 0, second.communicate()
        assert first.wait(60) == 0, first.communicate()
    found = node.images.check(name, Platform.local())
    assert found.snapshots == {"native": True, "overlay": True}
    assert found.status in ("complete", "discarded")
    assert node.leases.list() == ()
    node.garbage.collect()
    digests = set()
    for backend in ("native", "overlay"):
        with node.mounted(name, snapshotter=backend) as directory:
            digests.add(str(tree_digest(directory).digest))
    assert len(digests) == 1


def test_a_push_fetches_again_what_was_discarded(node: Node, registry: FakeRegistry) -> None:
    name, _ = pull(node, registry, "one", ("native",))
    wanted = layers(node, name)
    with FakeRegistry() as elsewhere:
        options = PushOptions(plain_http=True)
        asked = len(registry.requests("GET"))
        # It takes no pushes: what matters is that all that is to be sent was brought here first.
        with pytest.raises(SnapcoreError, match=elsewhere.host):
            trio.run(lambda: node.push(name, f"{elsewhere.host}/copy:1", options))
        paths = {seen.path.rpartition("/")[2] for seen in registry.requests("GET")[asked:]}
        assert {str(digest) for digest in wanted} <= paths
        node.garbage.collect()
        gone = next(iter(wanted))
        registry.spoil(f"blobs/{gone}", *[status(404)] * 5)
        with pytest.raises(SnapcoreError, match=f"{gone}.*cannot be fetched again") as caught:
            trio.run(lambda: node.push(name, f"{elsewhere.host}/copy:1", options))
        assert "\n" not in str(caught.value)
