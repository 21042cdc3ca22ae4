"""What prepare may answer besides mounts to write in, foreign images, and a worker that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

import pluggy
import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of

from snapcore import labels
from snapcore.config import NodeConfig
from snapcore.errors import AlreadyExists, NotFound, ResourceExhausted, Unavailable
from snapcore.mount import Mount
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.snapshots import Info, Kind, Labels, Mounts, Snapshotter, open_snapshotter
from snapcore.unpack import Event
from snapcore.unpack.events import LayerDone, UnpackStarted

pytestmark = pytest.mark.needs_root
hookimpl: Final = pluggy.HookimplMarker("snapcore")
LAYER: Final = tar_of(File("./"), File("etc/a", b"one"))


class Lazy:
    """A wrapper that answers prepare as a remote backend does, the way it is told."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.tries: list[str] = []
        self.inner: Snapshotter | None = None

    @hookimpl(wrapper=True)
    def prepare(self, key: str, labels: Labels) -> Generator[None, Mounts, Mounts]:
        mounts = yield
        self.tries.append(key)
        if self.form == "staged":
            return tuple(Mount("bind", m.source, "", ("ro", "rbind")) for m in mounts)
        assert self.inner is not None
        if self.form == "remote":
            target = labels["containerd.io/snapshot.ref"]
            self.inner.commit(target, key, labels=labels)
        else:
            self.inner.remove(key)
        raise AlreadyExists(f"supplied for {key!r}")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        yield opened


def use(node: Node, form: str) -> Lazy:
    """Let the node's native snapshotter answer in a form."""
    lazy = Lazy(form)
    root = node.snapshotters.root_of("native")
    node.snapshotter("native").close()
    lazy.inner = open_snapshotter("native", root)
    wrapped = open_snapshotter("native", root, wrappers=(lambda *_: lazy,))
    node.snapshotters._opened["native"] = wrapped
    return lazy


def load(
    node: Node, builder: LayoutBuilder, events: list[Event] | None = None
) -> Sequence[PullResult]:
    async def run() -> Sequence[PullResult]:
        return await node.import_(
            str(builder.directory),
            name="example/app",
            choice=UnpackChoice(snapshotters=("native",)),
            events=(events if events is not None else []).append,
        )

    return trio.run(run)


def layout(tmp_path: Path) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(LAYER)])
    return builder


@pytest.mark.parametrize("form", ["remote", "staged"])
def test_what_prepare_supplies_is_not_applied(node: Node, tmp_path: Path, form: str) -> None:
    lazy = use(node, form)
    events: list[Event] = []
    result = load(node, layout(tmp_path), events)[0]
    assert [e.how for e in events if isinstance(e, LayerDone)] == [form]
    assert not [e for e in events if isinstance(e, UnpackStarted)]
    assert node.snapshotter("native").stat(result.chain_id).kind is Kind.COMMITTED
    config = node.content.info(result.manifests[0].config.digest)
    assert config.labels[labels.gc_ref_snapshot("native")] == result.chain_id
    assert all(labels.UNCOMPRESSED not in info.labels for info in node.content.walk())
    assert lazy.inner is not None
    lazy.inner.close()


def test_three_false_promises_are_enough(node: Node, tmp_path: Path) -> None:
    lazy = use(node, "liar")
    with pytest.raises(Unavailable, match="3 times"):
        load(node, layout(tmp_path))
    assert len(set(lazy.tries)) == 3
    assert lazy.inner is not None
    remaining: list[Info] = list(lazy.inner.walk())
    assert remaining == []
    lazy.inner.close()


def test_a_foreign_config_is_fetched_whole_and_said_so(node: Node, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(LAYER)
    foreign = builder.add_blob(b"{}", "application/vnd.example.thing.v1+json")
    builder.tag("latest", builder.add_manifest(foreign, [layer.descriptor]))
    result = load(node, builder)[0]
    assert result.unpacked == 0
    assert "vnd.example.thing" in result.manifests[0].reason
    assert node.content.exists(layer.descriptor.digest)
    assert list(node.snapshotter("native").walk()) == []


def test_a_killed_worker_fails_the_layer_and_leaves_no_key(node: Node, tmp_path: Path) -> None:
    zygotes: list[int] = []
    assert node._place is not None
    workers = node._place.workers

    def kill(event: Event) -> None:
        if isinstance(event, UnpackStarted):
            # The zygote takes its workers with it, so this is both deaths at once.
            zygote = workers._zygote
            assert zygote is not None
            os.kill(zygote.pid, signal.SIGKILL)
            zygote.wait()
            zygotes.append(zygote.pid)

    async def run() -> None:
        workers.start()
        await node.import_(
            str(layout(tmp_path).directory),
            name="example/app",
            choice=UnpackChoice(snapshotters=("native",)),
            events=kill,
        )

    with pytest.raises((Unavailable, ResourceExhausted)):
        trio.run(run)
    assert zygotes
    assert list(node.snapshotter("native").walk()) == []
    with pytest.raises(NotFound):
        node.images.get("example/app")
