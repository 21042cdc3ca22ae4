"""Images through the whole unpacker: labels, refusals that leave nothing, late deletions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of, whiteout

from snapcore import labels
from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import DigestMismatch, NotFound, RefusedInput
from snapcore.node import Node, PullResult, UnpackChoice
from snapcore.oci import Digest, Platform
from snapcore.snapshots import Kind

pytestmark = pytest.mark.needs_root
BACKENDS = ("overlay", "native")
BASE = tar_of(File("./", mode=0o755), File("etc/", mode=0o755), File("etc/a", b"one"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        yield opened


def load(node: Node, builder: LayoutBuilder, choice: UnpackChoice) -> PullResult:
    async def run() -> tuple[PullResult, ...]:
        return await node.import_(str(builder.directory), name="example/app", choice=choice)

    return trio.run(run)[0]


def layout(tmp_path: Path, *layers: bytes) -> LayoutBuilder:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer) for layer in layers])
    return builder


def test_labels_tie_an_image_to_its_snapshots(node: Node, tmp_path: Path, backend: str) -> None:
    builder = layout(tmp_path, BASE, tar_of(File("etc/b", b"two")))
    result = load(node, builder, UnpackChoice(snapshotters=(backend,)))
    assert result.unpacked == 1
    done = result.manifests[0]
    config = node.content.info(done.config.digest).labels
    assert config[labels.gc_ref_snapshot(backend)] == result.chain_id
    refs = node.content.info(done.manifest.digest).labels
    layers = {
        key: value for key, value in refs.items() if key.startswith(f"{labels.GC_REF_CONTENT}.l.")
    }
    assert refs[f"{labels.GC_REF_CONTENT}.config"] == str(done.config.digest)
    assert sorted(layers) == [f"{labels.GC_REF_CONTENT}.l.0", f"{labels.GC_REF_CONTENT}.l.1"]
    top = node.snapshotter(backend).stat(result.chain_id)
    for digest in layers.values():
        assert node.content.info(Digest.parse(digest)).labels[labels.UNCOMPRESSED]
    assert top.labels[labels.SNAPSHOT_REF] == result.chain_id
    assert top.labels[labels.SNAPSHOT_PARENT_CHAIN_ID] == top.parent


def test_an_image_comes_whole_though_its_layers_were_discarded_for_another(
    node: Node, tmp_path: Path, backend: str
) -> None:
    builder = layout(tmp_path, BASE, tar_of(File("etc/b", b"two")))
    choice = UnpackChoice(snapshotters=(backend,), discard="after-layer")
    load(node, builder, choice)
    assert len(node.images.check("example/app:latest", Platform.local()).missing) == 2
    load(node, builder, replace(choice, discard="never"))
    assert node.images.check("example/app:latest", Platform.local()).complete
    node.garbage.collect()
    assert node.images.check("example/app:latest", Platform.local()).complete


def test_it_comes_whole_though_a_lazy_snapshotter_makes_the_layers_anew(
    node: Node, tmp_path: Path
) -> None:
    pytest.importorskip("pyfuse3")
    builder = layout(tmp_path, BASE, tar_of(File("etc/b", b"two")))
    load(node, builder, UnpackChoice(snapshotters=("overlay",), discard="after-layer"))
    load(node, builder, UnpackChoice(snapshotters=("overlay", "fuse")))
    assert node.images.check("example/app:latest", Platform.local()).complete


def test_discard_drops_the_layers_and_nothing_else(
    node: Node, tmp_path: Path, backend: str
) -> None:
    result = load(
        node, layout(tmp_path, BASE), UnpackChoice(snapshotters=(backend,), discard="after-image")
    )
    refs = node.content.info(result.manifests[0].manifest.digest).labels
    assert [key for key in refs if key.startswith(labels.GC_REF_CONTENT)] == [
        f"{labels.GC_REF_CONTENT}.config"
    ]


def test_a_wrong_diff_id_leaves_nothing(
    node: Node, tmp_path: Path, backend: str, census: None
) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    good = builder.add_layer(BASE)
    builder.add_image("latest", [replace(good, diff_id=Digest.of(b"another"))])
    with pytest.raises(DigestMismatch, match="diff ID"):
        load(node, builder, UnpackChoice(snapshotters=(backend,)))
    assert list(node.snapshotter(backend).walk()) == []
    with pytest.raises(NotFound):
        node.images.get("example/app")
    node.close()


def test_a_hostile_layer_names_itself_and_spoils_no_good_one(
    node: Node, tmp_path: Path, backend: str
) -> None:
    builder = layout(tmp_path, BASE, tar_of(File("../escape", b"x")))
    with pytest.raises(RefusedInput, match=r"layer sha256:.*\.\."):
        load(node, builder, UnpackChoice(snapshotters=(backend,)))
    kinds = [info.kind for info in node.snapshotter(backend).walk()]
    # Applied at the same time, the good layer may not be committed yet when the other fails.
    assert kinds in ([Kind.COMMITTED], [])
    assert kinds or backend == "overlay"


def test_an_image_without_layers_has_an_empty_root(
    node: Node, tmp_path: Path, backend: str
) -> None:
    result = load(node, layout(tmp_path), UnpackChoice(snapshotters=(backend,)))
    assert (result.unpacked, result.chain_id) == (1, "")
    key = labels.gc_ref_snapshot(backend)
    assert key not in node.content.info(result.manifests[0].config.digest).labels
    with node.mounted("example/app", snapshotter=backend) as root:
        assert list(Path(root).iterdir()) == []


def test_late_deletions_give_one_tree_everywhere(node: Node, tmp_path: Path) -> None:
    late = tar_of(File("etc/new", b"new"), File("usr/x", b"x"), whiteout("etc/a"), whiteout("etc"))
    builder = layout(tmp_path, BASE, late)
    digests = set()
    for backend in BACKENDS:
        load(node, builder, UnpackChoice(snapshotters=(backend,)))
        with node.mounted("example/app", snapshotter=backend) as root:
            assert sorted(p.name for p in (Path(root) / "etc").iterdir()) == ["new"]
            digests.add(str(tree_digest(root).digest))
    assert len(digests) == 1


def test_the_second_unpack_does_nothing_again(node: Node, tmp_path: Path, backend: str) -> None:
    builder = layout(tmp_path, BASE)
    first = load(node, builder, UnpackChoice(snapshotters=(backend,)))
    before = list(node.snapshotter(backend).walk())
    assert load(node, builder, UnpackChoice(snapshotters=(backend,))).chain_id == first.chain_id
    assert list(node.snapshotter(backend).walk()) == before


def test_manifests_that_share_a_config_are_both_served(
    node: Node, tmp_path: Path, backend: str
) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    plain = builder.add_image(None, [builder.add_layer(BASE, "none")])
    packed = builder.add_image("latest", [builder.add_layer(BASE, "gzip")])
    builder.tag("other", plain)
    assert plain.digest != packed.digest

    async def run() -> tuple[PullResult, ...]:
        choice = UnpackChoice(snapshotters=(backend,))
        return await node.import_(str(builder.directory), name="example/app", choice=choice)

    results = trio.run(run)
    assert [result.unpacked for result in results] == [1, 1]
    for result in results:
        assert node.images.check(result.reference, Platform.local()).snapshots[backend]


def test_cancelling_leaves_no_key(node: Node, tmp_path: Path, backend: str, census: None) -> None:
    builder = layout(tmp_path, BASE, tar_of(*(File(f"f{n}", b"x" * 1000) for n in range(3000))))

    async def run() -> None:
        with trio.CancelScope() as scope:

            def stop(event: object) -> None:
                if type(event).__name__ == "UnpackStarted":
                    scope.cancel()

            await node.import_(
                str(builder.directory),
                name="example/app",
                choice=UnpackChoice(snapshotters=(backend,)),
                events=stop,
            )

    trio.run(run)
    assert [i for i in node.snapshotter(backend).walk() if i.kind is not Kind.COMMITTED] == []
    node.close()


def test_a_backend_that_is_gone_does_not_silence_a_check(node: Node, tmp_path: Path) -> None:
    load(node, layout(tmp_path, BASE), UnpackChoice(snapshotters=("native",)))
    node.close()
    config = replace(NodeConfig.at(str(tmp_path / "root")), blocked=("native",))
    with Node.open(config) as later:
        assert later.images.check("example/app", Platform.local()).snapshots == {"native": False}
