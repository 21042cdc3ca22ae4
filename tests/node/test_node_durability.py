"""When a node has on disk what it says it has, and what it does when it has not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of

from snapcore import labels
from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DataLoss, NotFound
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Platform
from snapcore.snapshots import Durability, State, rootsync
from snapcore.snapshots.metastore import MetaStore
from snapcore.unpack import Event, LayerDone, no_events

NAME = "example/app:latest"
LAYERS = tuple(tar_of(File(f"etc/{n}", b"%d" % n)) for n in range(3))
BACKENDS = ("native", pytest.param("overlay", marks=pytest.mark.needs_root))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer) for layer in LAYERS])
    return builder


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig.at(str(tmp_path / "root"))


@pytest.fixture
def node(config: NodeConfig, census: None) -> Iterator[Node]:
    with Node.open(config) as opened:
        yield opened


@pytest.fixture
def on_sync(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """Have something done instead of each sync; return what counts them."""

    def install(look: Callable[[], None]) -> list[int]:
        done: list[int] = []

        def sync(descriptor: int) -> None:
            done.append(descriptor)
            look()

        monkeypatch.setattr(rootsync, "syncfs", sync)
        return done

    return install


def load(
    node: Node,
    layout: LayoutBuilder,
    backend: str,
    *,
    discard: bool = False,
    events: Callable[[Event], None] = no_events,
) -> PullResult:
    async def run() -> tuple[PullResult, ...]:
        choice = UnpackChoice(snapshotters=(backend,), discard="after-image" if discard else None)
        return await node.import_(
            str(layout.directory), name="example/app", choice=choice, events=events
        )

    return trio.run(run)[0]


def lose() -> None:
    raise OSError(5, "Input/output error")


def named(node: Node) -> bool:
    try:
        node.images.get(NAME)
    except NotFound:
        return False
    return True


def kept_layers(node: Node, result: PullResult) -> int:
    found = node.content.info(result.manifests[0].manifest.digest).labels
    return sum(key.startswith(f"{labels.GC_REF_CONTENT}.l.") for key in found)


def test_an_import_syncs_once_before_the_image_has_its_name(
    node: Node, layout: LayoutBuilder, backend: str, on_sync: Callable[..., list[int]]
) -> None:
    seen: list[bool] = []
    syncs = on_sync(lambda: seen.append(named(node)))
    load(node, layout, backend)
    assert seen == [False]
    assert {info.state for info in node.snapshotter(backend).walk()} == {State.DURABLE}
    load(node, layout, backend)
    node.close()
    assert len(syncs) == 1


@pytest.mark.parametrize(("durability", "count"), [(Durability.STRICT, 3), (Durability.NONE, 0)])
def test_the_configuration_says_when_to_sync(
    config: NodeConfig,
    layout: LayoutBuilder,
    durability: Durability,
    count: int,
    census: None,
    on_sync: Callable[..., list[int]],
) -> None:
    syncs = on_sync(lambda: None)
    with Node.open(replace(config, durability=durability)) as node:
        load(node, layout, "native")
    assert len(syncs) == count


def test_layers_are_discarded_only_when_their_snapshots_are_on_disk(
    node: Node, layout: LayoutBuilder, backend: str, on_sync: Callable[..., list[int]]
) -> None:
    result = load(node, layout, backend)
    assert kept_layers(node, result) == 3
    chain = result.chain_id
    with closing(_records(node, backend)) as records:
        records.mark_broken(chain)
    seen: list[int] = []
    on_sync(lambda: seen.append(kept_layers(node, result)))
    load(node, layout, backend, discard=True)
    assert seen == [3]
    assert kept_layers(node, result) == 0


def test_a_failed_sync_is_no_import(
    node: Node, layout: LayoutBuilder, backend: str, on_sync: Callable[..., list[int]]
) -> None:
    syncs = on_sync(lose)
    with pytest.raises(DataLoss, match="did not reach the disk"):
        load(node, layout, backend, discard=True)
    assert not named(node)
    with pytest.raises(DataLoss, match="earlier flush failed"):
        load(node, layout, backend)
    node.close()
    assert len(syncs) == 1


@pytest.mark.parametrize("layer", range(3))
def test_a_broken_layer_is_made_again_and_nothing_else(
    node: Node, layout: LayoutBuilder, backend: str, layer: int
) -> None:
    result = load(node, layout, backend)
    snapshotter = node.snapshotter(backend)
    chain = [snapshotter.stat(result.chain_id)]
    while chain[0].parent:
        chain.insert(0, snapshotter.stat(chain[0].parent))
    with closing(_records(node, backend)) as records:
        records.mark_broken(chain[layer].name)
    assert not node.images.check(NAME, Platform.local()).snapshots[backend]
    made: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, LayerDone):
            made.append(event.chain_id)

    load(node, layout, backend, events=note)
    assert made == [chain[layer].name]
    assert node.images.check(NAME, Platform.local()).snapshots[backend]
    states = {info.name: info.state for info in snapshotter.walk()}
    assert states == {info.name: State.DURABLE for info in chain}


@pytest.mark.needs_root
def test_a_rebuilt_image_is_the_same_tree(node: Node, layout: LayoutBuilder, backend: str) -> None:
    result = load(node, layout, backend)
    with node.mounted(NAME, snapshotter=backend) as root:
        before = tree_digest(root)
    base = result.chain_id
    snapshotter = node.snapshotter(backend)
    while parent := snapshotter.stat(base).parent:
        base = parent
    with closing(_records(node, backend)) as records:
        records.mark_broken(base)
    with (
        pytest.raises(Exception, match=r"broken|not unpacked"),
        node.mounted(NAME, snapshotter=backend),
    ):
        pass
    load(node, layout, backend)
    with node.mounted(NAME, snapshotter=backend) as root:
        assert tree_digest(root) == before


@pytest.mark.parametrize(("orderly", "count"), [(True, 1), (False, 0)])
def test_an_orderly_exit_syncs_what_was_committed_by_hand(
    config: NodeConfig,
    orderly: bool,
    count: int,
    census: None,
    on_sync: Callable[..., list[int]],
) -> None:
    syncs = on_sync(lambda: None)
    try:
        with Node.open(config) as node:
            snapshotter = node.snapshotter("native")
            snapshotter.prepare("k")
            snapshotter.commit("n", "k")
            if not orderly:
                raise InterruptedError
    except InterruptedError:
        assert not orderly
    assert len(syncs) == count


def _records(node: Node, backend: str) -> MetaStore:
    """Open a backend's records as the boot before this one would have."""
    root = Path(node.config.root, "snapshotters", backend)
    with closing(MetaStore(str(root))) as records:
        assert not records.pending()
    return MetaStore(str(root), token="earlier")
