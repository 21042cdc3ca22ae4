"""One image into several snapshotters in one pass, and several platforms of one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pluggy
import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of, whiteout

from snapcore import labels as label_keys
from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DigestMismatch, NotFound, ResourceExhausted
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Digest, Platform
from snapcore.snapshots import Info, Kind, open_snapshotter
from snapcore.unpack import Event, FetchDone
from snapcore.unpack.events import LayerDone, UnpackStarted

pytestmark = pytest.mark.needs_root
hookimpl: Final = pluggy.HookimplMarker("snapcore")
BOTH: Final = ("native", "overlay")
BASE: Final = tar_of(
    File("./"), File("etc/"), File("etc/a", b"one"), File("etc/big", b"x" * 3_000_000)
)
NEXT: Final = tar_of(File("etc/b", b"two"), whiteout("etc/big"))
LATE: Final = tar_of(File("etc/new", b"new"), whiteout("etc"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        yield opened


def load(
    node: Node,
    builder: LayoutBuilder,
    choice: UnpackChoice | None = None,
    events: list[Event] | None = None,
) -> PullResult:
    async def run() -> tuple[PullResult, ...]:
        return await node.import_(
            str(builder.directory),
            name="example/app",
            choice=choice or UnpackChoice(snapshotters=BOTH),
            events=(events if events is not None else []).append,
        )

    return trio.run(run)[0]


def layout(tmp_path: Path, *layers: bytes) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer) for layer in layers])
    return builder


def digest_of(node: Node, backend: str) -> str:
    with node.mounted("example/app", snapshotter=backend) as root:
        return str(tree_digest(root).digest)


def test_one_download_one_inflation_two_labels(
    node: Node, tmp_path: Path, jobs: Counter[str], census: None
) -> None:
    events: list[Event] = []
    result = load(node, layout(tmp_path, BASE, NEXT), events=events)
    assert result.manifests[0].snapshotters == BOTH
    assert digest_of(node, "native") == digest_of(node, "overlay")
    config = node.content.info(result.manifests[0].config.digest).labels
    assert {config[label_keys.gc_ref_snapshot(name)] for name in BOTH} == {result.chain_id}
    fetched = Counter(e.descriptor.digest for e in events if isinstance(e, FetchDone))
    assert set(fetched.values()) == {1}
    assert jobs == {"Feed": 2, "Sink": 4}
    done = Counter(e.snapshotter for e in events if isinstance(e, LayerDone))
    assert done == {"native": 2, "overlay": 2}
    assert result.peak_bytes > 6_000_000
    node.close()


def test_late_deletions_are_done_again_in_both(node: Node, tmp_path: Path) -> None:
    load(node, layout(tmp_path, BASE, LATE))
    assert digest_of(node, "native") == digest_of(node, "overlay")
    with node.mounted("example/app", snapshotter="overlay") as root:
        assert [p.name for p in (Path(root) / "etc").iterdir()] == ["new"]


def test_a_backend_that_has_the_image_gets_nothing(
    node: Node, tmp_path: Path, jobs: Counter[str]
) -> None:
    builder = layout(tmp_path, BASE, NEXT)
    load(node, builder, UnpackChoice(snapshotters=("native",)))
    jobs.clear()
    load(node, builder)
    assert jobs["Feed"] == jobs["Sink"] == 0
    assert digest_of(node, "native") == digest_of(node, "overlay")


def test_the_configuration_may_name_several(tmp_path: Path) -> None:
    config = replace(NodeConfig.at(str(tmp_path / "root")), snapshotters=BOTH)
    with Node.open(config) as node:
        result = load(node, layout(tmp_path, BASE), UnpackChoice())
        assert result.manifests[0].snapshotters == BOTH


class Full:
    """A snapshotter whose disk is full when a layer is committed."""

    @hookimpl(wrapper=True)
    def commit(self, name: str) -> Generator[None, Info, Info]:
        if name:
            raise ResourceExhausted("no space left")
        return (yield)


def test_one_backend_failing_leaves_the_others_whole(node: Node, tmp_path: Path) -> None:
    root = node.snapshotters.root_of("overlay")
    node.snapshotter("overlay").close()
    full = open_snapshotter("overlay", root, wrappers=(lambda *_: Full(),))
    node.snapshotters._opened["overlay"] = full
    with pytest.raises(ResourceExhausted):
        load(node, layout(tmp_path, BASE))
    (only,) = node.snapshotter("native").walk()
    assert only.kind is Kind.COMMITTED
    assert list(full.walk()) == []
    refs = [info.labels.get(label_keys.gc_ref_snapshot("native")) for info in node.content.walk()]
    assert only.name in refs
    with pytest.raises(NotFound):
        node.images.get("example/app")


def test_a_wrong_layer_leaves_nothing_anywhere(node: Node, tmp_path: Path, census: None) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(BASE)
    builder.add_image("latest", [replace(layer, diff_id=Digest.of(b"another"))])
    with pytest.raises(DigestMismatch, match="diff ID"):
        load(node, builder)
    assert [list(node.snapshotter(name).walk()) for name in BOTH] == [[], []]
    node.close()


def test_cancelling_leaves_no_key(node: Node, tmp_path: Path, census: None) -> None:
    builder = layout(tmp_path, BASE)

    async def run() -> None:
        with trio.CancelScope() as scope:

            def stop(event: Event) -> None:
                if isinstance(event, UnpackStarted):
                    scope.cancel()

            await node.import_(
                str(builder.directory),
                name="example/app",
                choice=UnpackChoice(snapshotters=BOTH),
                events=stop,
            )

    trio.run(run)
    assert [list(node.snapshotter(name).walk()) for name in BOTH] == [[], []]
    node.close()


def two_platforms(tmp_path: Path) -> tuple[LayoutBuilder, dict[str, Digest]]:
    builder = LayoutBuilder(tmp_path / "layout")
    here, there = Platform.local(), Platform.parse("linux/s390x")
    layers = {p: builder.add_layer(tar_of(File("f", str(p).encode()))) for p in (here, there)}
    manifests = [
        builder.add_image(None, [layer], platform=platform) for platform, layer in layers.items()
    ]
    manifests.append(
        replace(
            builder.add_image(None, [layers[here]], platform=here, config={"note": "attestation"}),
            platform=Platform("unknown", "unknown"),
        )
    )
    builder.add_index("latest", manifests)
    return builder, {str(p): layer.descriptor.digest for p, layer in layers.items()}


@pytest.mark.parametrize(
    ("choice", "fetched", "unpacked"),
    [
        (UnpackChoice(), 1, 1),
        (UnpackChoice(all_platforms=True), 2, 1),
        (UnpackChoice(unpack_all=True), 2, 2),
    ],
)
def test_how_many_platforms(
    node: Node, tmp_path: Path, choice: UnpackChoice, fetched: int, unpacked: int
) -> None:
    builder, layers = two_platforms(tmp_path)
    result = load(node, builder, choice)
    assert sum(node.content.exists(digest) for digest in layers.values()) == fetched
    assert result.unpacked == unpacked
    reasons = {m.reason for m in result.manifests if m.reason}
    assert ("it is not an image (platform unknown)" in reasons) == choice.unpack_all
    assert ("it is for another platform" in reasons) == choice.all_platforms
