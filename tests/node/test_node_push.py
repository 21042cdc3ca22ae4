"""Pushing at the node: what is told meanwhile, and what goes over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of
from support.registry import docker_registry
from support.relays import Relay

from snapcore.config import NodeConfig
from snapcore.errors import InvalidArgument, NotFound
from snapcore.node import Node, PushOptions, UnpackChoice
from snapcore.oci import Digest, Platform
from snapcore.unpack import Event, Resolved, SendDone, SendProgress, SendStarted

NAME = "localhost/several:latest"
LAYER = 100_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that has an index for two platforms, with a layer each."""
    builder = LayoutBuilder(tmp_path / "several")
    manifests = []
    for platform in (Platform.local(), Platform.parse("linux/riscv64")):
        data = str(platform).encode().ljust(LAYER, b".")
        layer = builder.add_layer(tar_of(File("etc/platform", data)), "none")
        manifests.append(builder.add_image(None, [layer], platform=platform))
    builder.add_index("latest", manifests)

    async def load(opened: Node) -> None:
        choice = UnpackChoice(all_platforms=True, unpack=False)
        await opened.import_(str(builder.directory), choice=choice)

    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        trio.run(load, opened)
        yield opened


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A wire to a real registry."""
    with docker_registry(tmp_path / "storage", tmp_path) as host, Relay(host) as opened:
        yield opened


def push(node: Node, destination: str, *, everything: bool = True) -> list[Event]:
    told: list[Event] = []
    options = PushOptions(plain_http=True, all_platforms=everything)

    async def run() -> None:
        await node.push(NAME, destination, options, events=told.append)

    trio.run(run)
    return told


def how(told: list[Event]) -> list[str]:
    return sorted(event.how for event in told if isinstance(event, SendDone))


def test_each_blob_has_its_beginning_its_bytes_and_its_end(node: Node, relay: Relay) -> None:
    told = push(node, f"{relay.host}/app:1")
    target = node.images.get(NAME).target
    assert told[0] == Resolved(f"{relay.host}/app:1", target)
    blobs = {info.digest: info.size for info in node.content.walk()}
    began = [event.descriptor.digest for event in told if isinstance(event, SendStarted)]
    ended = [event.descriptor.digest for event in told if isinstance(event, SendDone)]
    assert sorted(began) == sorted(ended) == sorted(blobs)
    assert ended[-1] == target.digest
    last: dict[Digest, int] = {}
    for event in told:
        if isinstance(event, SendProgress):
            assert event.offset > last.get(event.descriptor.digest, 0)
            last[event.descriptor.digest] = event.offset
    assert all(blobs[digest] == offset for digest, offset in last.items())
    assert len(last) == 4
    assert how(told) == ["uploaded"] * 7


def test_another_repository_gives_what_it_has(node: Node, relay: Relay) -> None:
    """Counted: after the first push no layer goes over the wire again."""
    push(node, f"{relay.host}/one:1")
    once = sum(map(len, relay.sent))
    assert once > 2 * LAYER
    assert how(push(node, f"{relay.host}/two:1")) == ["mounted"] * 4 + ["uploaded"] * 3
    assert sum(map(len, relay.sent)) - once < LAYER / 2
    mounts = [line for line in relay.requests("POST") if "mount=" in line]
    assert len(mounts) == 4
    assert all("from=one" in line for line in mounts)
    asked = len(relay.requests("PUT")), len(relay.requests("POST"))
    assert how(push(node, f"{relay.host}/two:1")) == ["exists"] * 7
    assert (len(relay.requests("PUT")), len(relay.requests("POST"))) == asked


def test_one_platform(node: Node, relay: Relay) -> None:
    told = push(node, f"{relay.host}/app:1", everything=False)
    assert len(how(told)) == 3
    (begun,) = [event for event in told if isinstance(event, Resolved)]
    assert begun.descriptor.digest != node.images.get(NAME).target.digest


def test_what_cannot_be_pushed(node: Node, relay: Relay) -> None:
    with pytest.raises(InvalidArgument, match="cannot name"):
        push(node, f"{relay.host}/app@sha256:{'0' * 64}")
    layer = next(info.digest for info in node.content.walk() if info.size > LAYER)
    node.content.delete(layer)
    with pytest.raises(NotFound, match=layer.hex):
        push(node, f"{relay.host}/app:1")
    assert relay.sent == []
