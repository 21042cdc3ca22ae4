"""Layers applied at the same time give the trees of layers applied in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pluggy
import pytest
import trio
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout
from trio.testing import wait_all_tasks_blocked

from snapcore import labels as label_keys
from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DigestMismatch, RefusedInput
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Digest
from snapcore.snapshots import Info, Kind, Labels, Mounts, Snapshotter, open_snapshotter
from snapcore.unpack import Event, WorkerPool
from snapcore.unpack.events import UnpackStarted
from snapcore.unpack.protocol import Done, Job

pytestmark = pytest.mark.needs_root
hookimpl: Final = pluggy.HookimplMarker("snapcore")
_SECONDS: Final = 20
BASE: Final = tar_of(
    File("./", mode=0o700, mtime=1_600_000_000),
    File("usr/", mode=0o750),
    File("usr/bin/", mtime=1_500_000_000),
    File("usr/bin/sh", b"shell"),
    File("usr/bin/dash", hardlink="usr/bin/sh"),
    File("bin", link="usr/bin"),
    File("etc/", mode=0o711, uid=3),
    File("etc/a", b"one"),
    File("etc/sub/", mode=0o700),
    File("etc/sub/x", b"x"),
)
STACKS: Final = {
    "explicit parents": [tar_of(File("etc/", mode=0o700), File("etc/b", b"two"))],
    "implied parents": [tar_of(File("etc/b", b"two")), tar_of(File("etc/sub/y", b"y"))],
    "usrmerge": [tar_of(File("bin/new", b"new")), tar_of(File("bin/newer", b"newer"))],
    "whiteouts": [tar_of(whiteout("etc/a")), tar_of(opaque("etc/sub"), File("etc/sub/z", b"z"))],
    "whiteout through a link": [tar_of(whiteout("bin/dash"))],
    "hard link over layers": [tar_of(File("usr/bin/ash", hardlink="usr/bin/sh"))],
    "replaced and removed": [
        tar_of(File("etc/sub", b"a file now")),
        tar_of(File("etc/sub/", mode=0o755), File("etc/sub/back", b"back")),
        tar_of(whiteout("etc/sub"), File("etc/c", link="a")),
    ],
    "in order after all": [tar_of(File("l", link="etc"), File("l/through", b"t"))],
    "twelve": [tar_of(File(f"d{n}/f", b"x" * n), File("etc/a", b"%d" % n)) for n in range(12)],
}


class Gate:
    """Holds the base layer's commit back until all others were prepared apart."""

    def __init__(self, apart: int) -> None:
        self._left = apart
        self._open = threading.Event()

    @hookimpl(wrapper=True)
    def prepare(self, parent: str, labels: Labels) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        if not parent and label_keys.SNAPSHOT_PARENT_CHAIN_ID in labels:
            self._left -= 1
            if self._left == 0:
                self._open.set()
        return mounts

    @hookimpl(wrapper=True)
    def commit(self, labels: Labels) -> Generator[None, Info, Info]:
        if label_keys.SNAPSHOT_PARENT_CHAIN_ID not in labels:
            assert self._open.wait(_SECONDS), "the others were not prepared apart"
        return (yield)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        yield opened


def gate(node: Node, apart: int) -> Snapshotter:
    """Put a gate before the node's overlay snapshotter."""
    node.snapshotter("overlay").close()
    root = node.snapshotters.root_of("overlay")
    wrapped = open_snapshotter("overlay", root, wrappers=(lambda *_: Gate(apart),))
    node.snapshotters._opened["overlay"] = wrapped
    return wrapped


def layout(tmp_path: Path, *layers: bytes) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer) for layer in layers])
    return builder


def load(
    node: Node, builder: LayoutBuilder, backend: str, events: list[Event] | None = None
) -> PullResult:
    async def run() -> tuple[PullResult, ...]:
        return await node.import_(
            str(builder.directory),
            name="example/app",
            choice=UnpackChoice(snapshotters=(backend,)),
            events=(events if events is not None else []).append,
        )

    return trio.run(run)[0]


def digest_of(node: Node, backend: str) -> str:
    with node.mounted("example/app", snapshotter=backend) as root:
        return str(tree_digest(root).digest)


@pytest.mark.parametrize("name", STACKS)
def test_the_tree_is_that_of_layers_in_order(
    node: Node, tmp_path: Path, name: str, census: None
) -> None:
    builder = layout(tmp_path, BASE, *STACKS[name])
    snapshotter = gate(node, apart=len(STACKS[name]))
    load(node, builder, "overlay")
    load(node, builder, "native")
    assert digest_of(node, "overlay") == digest_of(node, "native")
    assert {info.kind for info in snapshotter.walk()} == {Kind.COMMITTED}
    node.close()


def test_a_bad_layer_leaves_the_good_ones_below_it(node: Node, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layers = [builder.add_layer(tar_of(File(f"f{n}", b"x"))) for n in range(4)]
    layers[2] = replace(layers[2], diff_id=Digest.of(b"another"))
    builder.add_image("latest", layers)
    with pytest.raises(DigestMismatch, match=str(layers[2].descriptor.digest)):
        load(node, builder, "overlay")
    left = list(node.snapshotter("overlay").walk())
    assert {info.kind for info in left} <= {Kind.COMMITTED}
    assert len(left) <= 2


def test_a_refusal_is_the_one_of_layers_in_order(node: Node, tmp_path: Path) -> None:
    builder = layout(tmp_path, BASE, tar_of(File("etc/a/below-a-file", b"x")))
    messages = []
    gate(node, apart=1)
    for backend in ("overlay", "native"):
        with pytest.raises(RefusedInput) as caught:
            load(node, builder, backend)
        messages.append(str(caught.value).replace(backend, ""))
    assert messages[0] == messages[1]


def test_cancelling_leaves_no_key(node: Node, tmp_path: Path, census: None) -> None:
    big = [tar_of(*(File(f"d{m}/f{n}", b"x" * 100) for n in range(1500))) for m in range(4)]
    builder = layout(tmp_path, BASE, *big)
    started = []

    async def run() -> None:
        with trio.CancelScope() as scope:

            def stop(event: Event) -> None:
                if isinstance(event, UnpackStarted):
                    started.append(event)
                    if len(started) == 3:
                        scope.cancel()

            await node.import_(
                str(builder.directory),
                name="example/app",
                choice=UnpackChoice(snapshotters=("overlay",)),
                events=stop,
            )

    trio.run(run)
    assert len(started) >= 3
    assert {info.kind for info in node.snapshotter("overlay").walk()} <= {Kind.COMMITTED}
    node.close()


class Counting:
    """Counts the jobs that run at the same time; each waits for what else can begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self._running = 0
        self._original = WorkerPool.run
        counting = self

        async def run(
            pool: WorkerPool,
            job: Job,
            descriptors: Sequence[int],
            progress: Callable[[int], None],
        ) -> Done | None:
            return await counting._run(pool, job, descriptors, progress)

        monkeypatch.setattr(WorkerPool, "run", run)

    async def _run(
        self,
        pool: WorkerPool,
        job: Job,
        descriptors: Sequence[int],
        progress: Callable[[int], None],
    ) -> Done | None:
        self._running += 1
        self.most = max(self.most, self._running)
        await wait_all_tasks_blocked(0.01)
        try:
            return await self._original(pool, job, descriptors, progress)
        finally:
            self._running -= 1


def node_with(tmp_path: Path, workers: int) -> Node:
    config = NodeConfig.at(str(tmp_path / "root"))
    return Node.open(replace(config, unpack=replace(config.unpack, workers=workers)))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_limit_on_layers_is_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    counting = Counting(monkeypatch)
    with node_with(tmp_path, workers) as node:
        gate(node, apart=12)
        load(node, layout(tmp_path, BASE, *STACKS["twelve"]), "overlay")
    assert counting.most == workers


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 2), (8, 3)])
def test_several_images_share_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, most: int
) -> None:
    counting = Counting(monkeypatch)
    builders = [
        layout(tmp_path / name, tar_of(File(name, name.encode()))) for name in ("a", "b", "c")
    ]

    async def all_of_them(node: Node) -> None:
        async with trio.open_nursery() as nursery:
            for number, builder in enumerate(builders):
                choice = UnpackChoice(snapshotters=("overlay",))
                load_one = partial(node.import_, name=f"example/{number}", choice=choice)
                nursery.start_soon(load_one, str(builder.directory))

    with node_with(tmp_path, workers) as node:
        trio.run(all_of_them, node)
    assert counting.most == most
