"""The embedding API: pull, unpack, mount, tag, check and remove, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw
import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of
from support.nodes import serve
from support.roots import Served, served

import snapcore
from snapcore.config import NodeConfig
from snapcore.errors import FailedPrecondition, InvalidArgument, NotFound
from snapcore.node import Node, Policy, PullOptions, PullResult, UnpackChoice
from snapcore.oci import Platform
from snapcore.unpack import (
    Event,
    FetchDone,
    FetchProgress,
    FetchStarted,
    ImageUnpacked,
    LayerDone,
    Resolved,
    UnpackProgress,
    UnpackStarted,
)

LAYERS: Final = 3
BACKENDS: Final = ("native", pytest.param("overlay", marks=pytest.mark.needs_root))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Served]:
    builder = LayoutBuilder(tmp_path / "layout")
    layers = [builder.add_layer(tar_of(File(f"etc/{n}", b"%d" % n))) for n in range(LAYERS)]
    builder.add_image("latest", layers)
    with served(builder, layers) as image:
        yield image


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def node(tmp_path: Path, backend: str) -> Iterator[Node]:
    root = tmp_path / "root"
    config = NodeConfig(root=str(root), state=str(root / "state"), snapshotters=(backend,))
    with Node.open(config) as opened:
        yield opened


@dataclass(slots=True)
class Told:
    """A listener that remembers."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def about(self, digest: object) -> list[type[Event]]:
        """Return what was told of one blob, progress once, in order."""
        kinds: list[type[Event]] = []
        for event in self.events:
            of = getattr(event, "descriptor", None) or getattr(event, "manifest", None)
            if of is not None and of.digest == digest and type(event) not in kinds[-1:]:
                kinds.append(type(event))
        return kinds


def pull(
    node: Node,
    image: Served,
    policy: Policy = "always",
    choice: UnpackChoice | None = None,
    told: Told | None = None,
) -> PullResult:
    options = PullOptions(choice or UnpackChoice(), policy=policy, plain_http=True)

    async def run() -> PullResult:
        return await node.pull(image.reference, options, events=told or Told())

    return trio.run(run)


def test_what_is_told_of_a_pull(node: Node, image: Served, backend: str) -> None:
    told = Told()
    result = pull(node, image, told=told)
    assert isinstance(told.events[0], Resolved)
    assert told.events[-1] == ImageUnpacked(result.descriptor, backend, image.chain_id)
    for layer in image.layers:
        kinds = told.about(layer.descriptor.digest)
        assert [kind for kind in kinds if kind is not UnpackProgress] == [
            *(FetchStarted, FetchProgress, FetchDone, UnpackStarted, LayerDone)
        ]
    done = [event for event in told.events if isinstance(event, LayerDone)]
    # However many are applied at a time, no layer is there before its parent.
    assert [event.descriptor for event in done] == [layer.descriptor for layer in image.layers]
    assert {event.how for event in done} == {"applied"}


def test_what_is_told_of_what_was_here(node: Node, image: Served) -> None:
    pull(node, image)
    told = Told()
    pull(node, image, told=told)
    assert not [e for e in told.events if isinstance(e, FetchStarted | UnpackStarted)]
    assert all(event.cached for event in told.events if isinstance(event, FetchDone))
    assert isinstance(told.events[-1], ImageUnpacked)


def move_tag(image: Served, tmp_path: Path) -> str:
    """Let the tag name another image of the same base; return its chain ID."""
    builder = LayoutBuilder(tmp_path / "newer")
    layers = [builder.add_layer(tar_of(File("etc/0", b"0"))), builder.add_layer(tar_of(File("x")))]
    builder.add_image("latest", layers)
    serve(image.registry, builder)
    return Served(image.registry, tuple(layers)).chain_id


def test_policies(node: Node, image: Served, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        pull(node, image, "never")
    assert image.registry.server.seen == []
    assert pull(node, image, "missing").chain_id == image.chain_id
    moved = move_tag(image, tmp_path)
    asked = len(image.registry.server.seen)
    for policy in ("missing", "never"):
        assert pull(node, image, policy).chain_id == image.chain_id
    assert len(image.registry.server.seen) == asked
    assert pull(node, image, "always").chain_id == moved
    assert pull(node, image, "never").chain_id == moved


def test_what_is_missing_is_fetched_if_the_policy_allows(node: Node, image: Served) -> None:
    pull(node, image, choice=UnpackChoice(unpack=False))
    lost = image.layers[0].descriptor
    node.content.delete(lost.digest)
    asked = len(image.registry.server.seen)
    with pytest.raises(NotFound, match=lost.digest.hex):
        pull(node, image, "never")
    assert len(image.registry.server.seen) == asked
    assert pull(node, image, "missing").chain_id == image.chain_id
    assert node.content.exists(lost.digest)


def test_an_unpacked_image_does_not_miss_its_layers(node: Node, image: Served) -> None:
    pull(node, image)
    asked = len(image.registry.server.seen)
    for layer in image.layers:
        node.content.delete(layer.descriptor.digest)
    for policy in ("missing", "never"):
        told = Told()
        assert pull(node, image, policy, told=told).unpacked == 1
        assert isinstance(told.events[-1], ImageUnpacked)
    assert len(image.registry.server.seen) == asked


def test_fetch_now_and_unpack_later(node: Node, image: Served, backend: str) -> None:
    fetched = pull(node, image, choice=UnpackChoice(unpack=False))
    assert (fetched.unpacked, list(node.snapshotter().walk())) == (0, [])
    assert not node.images.check(image.reference, Platform.local()).snapshots.get(backend)
    asked = len(image.registry.server.seen)
    result = trio.run(node.unpack, image.reference)
    assert result.chain_id == image.chain_id
    assert len(image.registry.server.seen) == asked
    check = node.images.check(image.reference, Platform.local())
    assert (check.complete, check.snapshots) == (True, {backend: True})
    assert check.present_bytes == check.required_bytes > 0


@pytest.mark.needs_root
def test_mounted_for_a_while(node: Node, image: Served) -> None:
    pull(node, image)
    before = list(node.snapshotter().walk())
    with node.mounted(image.reference) as root:
        assert sorted(path.name for path in (Path(root) / "etc").iterdir()) == ["0", "1", "2"]
        with pytest.raises(OSError, match="Read-only"):
            (Path(root) / "new").touch()
    with node.mounted(image.reference, rw=True) as root:
        (Path(root) / "new").touch()
    assert list(node.snapshotter().walk()) == before


def test_names_come_and_go(node: Node, image: Served) -> None:
    result = pull(node, image)
    assert node.images.tag(image.reference, "other:1").target == result.descriptor
    assert len(node.images.list()) == 2
    assert [i.name for i in node.images.list(["name~=other"])] == ["docker.io/library/other:1"]
    inspection = node.images.inspect("other:1", Platform.local())
    assert inspection.chain_id == image.chain_id
    assert node.images.remove("other:1").target == result.descriptor
    with pytest.raises(NotFound, match="pull or import it first"):
        node.images.get("other:1")
    # Forgetting a name takes nothing away.
    assert node.images.check(image.reference, Platform.local()).complete
    with pytest.raises(InvalidArgument):
        node.images.get("UPPER")


def test_two_nodes_on_one_root(node: Node, image: Served) -> None:
    with Node.open(node.config) as other:
        pull(node, image)
        assert [i.name for i in other.images.list()] == [f"{image.reference}:latest"]
        assert trio.run(other.unpack, image.reference).chain_id == image.chain_id
        other.images.remove(image.reference)
    with pytest.raises(NotFound):
        node.images.get(image.reference)
    assert len(list(node.snapshotter().walk())) == LAYERS
    # The other's end took nothing of ours away.
    assert pull(node, image).chain_id == image.chain_id


def test_two_nodes_share_one_download(node: Node, image: Served) -> None:
    async def both() -> None:
        options = PullOptions(plain_http=True)
        async with snapcore.open_node(node.config) as other, trio.open_nursery() as nursery:
            for each in (node, other):
                nursery.start_soon(each.pull, image.reference, options)

    trio.run(both)
    for layer in image.layers:
        asked = image.registry.requests(f"GET /v2/slow/blobs/{layer.descriptor.digest}")
        assert len(asked) == 1


@pytest.mark.parametrize("what", ["node.db", "snapshotters/native/metadata.db"])
def test_a_newer_schema_is_refused(tmp_path: Path, image: Served, what: str) -> None:
    config = NodeConfig(str(tmp_path / "new"), str(tmp_path / "state"), snapshotters=("native",))
    with Node.open(config) as opened:
        pull(opened, image)
    connection = apsw.Connection(str(tmp_path / "new" / what))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    def look() -> None:
        with Node.open(config) as opened:
            opened.snapshotter()

    with pytest.raises(FailedPrecondition, match="newer than this snapcore"):
        look()
    assert not list((tmp_path / "new/owner").iterdir())
    assert not list((tmp_path / "state").iterdir())
