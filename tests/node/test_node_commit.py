"""What has changed in a snapshot: as a layer, and as an image that others pull."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from support.diffs import PLAIN, Made, made
from support.faults import FakeRegistry
from support.layout import File, LayoutBuilder, tar_of
from support.nodes import serve

from snapcore.archive import Compression, DiffOptions, tree_digest
from snapcore.config import NodeConfig, UnpackConfig
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RefusedInput,
)
from snapcore.labels import GC_REF_CONTENT, UNCOMPRESSED
from snapcore.mount import Mount, temporary_mount
from snapcore.node import CommitOptions, CommittedImage, Node, PullOptions, UnpackChoice
from snapcore.oci import Descriptor, Digest, Platform, chain_ids, parse_config
from snapcore.oci.descriptor import OCI_LAYER, OCI_MANIFEST
from snapcore.snapshots import LayerTarget, Mounts, hookimpl, open_snapshotter

BACKENDS = (
    pytest.param("native", id="native"),
    pytest.param("overlay", marks=pytest.mark.needs_root, id="overlay"),
)
BASE = "localhost/base:latest"
EPOCH = 1_700_000_000


def layout(directory: Path, *, docker: bool = False) -> LayoutBuilder:
    """Make an image of two layers with things to change."""
    builder = LayoutBuilder(directory, docker=docker)
    layers = [
        builder.add_layer(
            tar_of(
                File("etc/", mode=0o755),
                File("etc/motd", b"hello\n"),
                File("etc/gone", b"deleted later\n"),
                File("usr/bin/", mode=0o755),
                File("usr/bin/tool", b"#!/bin/sh\n", mode=0o755),
                File("usr/bin/alias", hardlink="usr/bin/tool"),
                File("var/cache/", mode=0o755),
                File("var/cache/old", b"cached"),
            )
        ),
        builder.add_layer(tar_of(File("bin", link="usr/bin"))),
    ]
    builder.add_image("latest", layers)
    return builder


@pytest.fixture(params=BACKENDS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    """A node that has the image, unpacked."""
    root = str(tmp_path / "root")
    config = NodeConfig(root=root, state=f"{root}/state", snapshotters=(request.param,))
    with Node.open(config) as opened:
        load(opened, layout(tmp_path / "layout").directory, "localhost/base")
        yield opened


def reaching(config: NodeConfig, registry: FakeRegistry) -> NodeConfig:
    """Return a configuration by which a registry without TLS is reached."""
    return replace(config, registry=replace(config.registry, plain_http=(registry.host,)))


def load(node: Node, source: Path, name: str, *, unpack: bool = True) -> None:
    async def run() -> None:
        await node.import_(str(source), name=name, choice=UnpackChoice(unpack=unpack))

    trio.run(run)


def change(root: Path) -> None:
    """Do to a mounted tree what containers do."""
    (root / "etc/motd").write_bytes(b"changed\n")
    (root / "etc/gone").unlink()
    shutil.rmtree(root / "var/cache")
    (root / "var/cache").mkdir()
    (root / "var/cache/new").write_bytes(b"x" * 5000)
    os.link(root / "usr/bin/tool", root / "usr/bin/third")
    os.chmod(root / "usr/bin", 0o700)
    os.symlink("motd", root / "etc/link")


@contextmanager
def shown(mounts: Mounts) -> Iterator[Path]:
    """Have the tree of a writable snapshot at hand; a bind needs no privilege for that."""
    if mounts[0].type == "bind":
        yield Path(mounts[0].source)
    else:
        with temporary_mount(mounts) as place:
            yield Path(place)


def active(node: Node, parent: str | None = None) -> str:
    """Prepare the snapshot `work`, change it, and return the digest of its tree."""
    parent = chain(node) if parent is None else parent
    with shown(node.snapshotter().prepare("work", parent)) as root:
        if parent:
            change(root)
        else:
            (root / "only").write_bytes(b"from scratch")
        return str(tree_digest(str(root)).digest)


def digest_of(node: Node, name: str) -> str:
    """Return the digest of an image's tree, as its snapshot has it."""
    snapshotter = node.snapshotter()
    with shown(snapshotter.prepare("look", chain(node, name))) as root:
        found = str(tree_digest(str(root)).digest)
    snapshotter.remove("look")
    snapshotter.cleanup()
    return found


def chain(node: Node, name: str = BASE) -> str:
    return node.images.inspect(name, Platform.local()).chain_id


def commit(
    node: Node, name: str = "localhost/new", options: CommitOptions | None = None
) -> CommittedImage:
    async def run() -> CommittedImage:
        return await node.commit("work", name, options)

    return trio.run(run)


def documents(node: Node, image: CommittedImage) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config and manifest."""
    config, manifest = (
        json.loads(node.content.read_blob(blob, 1 << 20))
        for blob in (image.config, image.descriptor)
    )
    return config, manifest


def layer_of(node: Node, key: str, options: DiffOptions = PLAIN) -> Made:
    return made(lambda write: node.diff(key, write, options))


def check_nothing_left(node: Node, *snapshots: str) -> None:
    """Check that no lease, ingest or snapshot but these is there, below the image's own."""
    assert not node.leases.list()
    assert not node.content.statuses()
    own = {str(each) for each in chain_ids(layers(node))}
    assert {info.name for info in node.snapshotter().walk()} - own == set(snapshots)


def layers(node: Node) -> Sequence[Digest]:
    return parse_config(node.images.inspect(BASE, Platform.local()).config_bytes).diff_ids


class TestDiff:
    """What has changed in a snapshot, as a layer."""

    def test_an_active_one(self, node: Node, census: None) -> None:
        active(node)
        layer = layer_of(node, "work")
        names = set(layer.names)
        assert {"etc/", "etc/.wh.gone", "etc/motd", "etc/link", "var/cache/new"} <= names
        assert {"etc/gone", "bin", "var/cache/old"} & names == set()
        assert {"var/cache/.wh.old", "var/cache/.wh..wh..opq"} & names
        assert layer == layer_of(node, "work")
        check_nothing_left(node, "work")

    def test_a_committed_one(self, node: Node, census: None) -> None:
        active(node)
        snapshotter = node.snapshotter()
        before = layer_of(node, "work")
        snapshotter.commit("done", "work")
        after = layer_of(node, "done")
        # An upper directory tells neither what it hides nor which links it has broken.
        apart = {"var/cache/.wh.old", "var/cache/.wh..wh..opq", "usr/bin/alias"}
        assert set(after.names) - apart == set(before.names) - apart
        check_nothing_left(node, "done")

    @pytest.mark.needs_root
    def test_a_first_layer(self, node: Node) -> None:
        base = chain_ids(layers(node))[0]
        made_again = layer_of(node, str(base))
        assert made_again.names[:3] == ["/", "etc/", "etc/gone"]
        active(node, "")
        assert layer_of(node, "work").names == ["/", "only"]

    def test_a_view_cannot_have_changed(self, node: Node) -> None:
        node.snapshotter().view("look", chain(node))
        with pytest.raises(FailedPrecondition, match="'look' is a view"):
            layer_of(node, "look")
        with pytest.raises(NotFound):
            layer_of(node, "nobody")

    def test_what_fails_leaves_nothing(self, node: Node, census: None) -> None:
        active(node)
        with shown(node.snapshotter().mounts("work")) as root:
            (root / "etc/.wh.bad").touch()
        with pytest.raises(RefusedInput, match=r"etc/\.wh\.bad"):
            layer_of(node, "work")
        with pytest.raises(RefusedInput):
            commit(node)
        check_nothing_left(node, "work")
        assert [image.name for image in node.images.list()] == [BASE]

    @pytest.mark.needs_root
    def test_what_core_must_mount(self, tmp_path: Path, census: None) -> None:
        config = replace(NodeConfig.at(str(tmp_path / "root")), snapshotters=("native",))
        with Node.open(config) as node:
            load(node, layout(tmp_path / "layout").directory, "localhost/base")
            root = node.snapshotters.root_of("native")
            node.snapshotter("native").close()
            mounted = open_snapshotter("native", root, wrappers=(lambda *_: Mounted(),))
            node.snapshotters._opened["native"] = mounted
            wanted = active(node)
            assert mounted.target("work").mounts
            assert "etc/.wh.gone" in layer_of(node, "work").names
            commit(node)
            assert digest_of(node, "localhost/new") == wanted


class Mounted:
    """Hides where layers are applied, so that core mounts the place."""

    @hookimpl(wrapper=True)
    def target(self) -> Generator[None, LayerTarget, LayerTarget]:
        found = yield
        return LayerTarget("", mounts=(Mount("bind", found.directory, options=("rbind", "rw")),))


class TestCommit:
    """An image of a changed snapshot."""

    def test_its_snapshot_is_what_was_changed(self, node: Node) -> None:
        wanted = active(node)
        image = commit(node)
        assert digest_of(node, "localhost/new") == wanted
        assert chain(node, "localhost/new") == image.chain_id
        assert node.snapshotter().stat("work").kind == "active"
        assert node.snapshotter().stat(image.chain_id).parent == chain(node)
        check = node.images.check("localhost/new", Platform.local())
        assert (check.complete, set(check.snapshots.values())) == (True, {True})

    def test_its_documents(self, node: Node) -> None:
        active(node)
        options = CommitOptions(
            author="me",
            comment="why",
            changes=('CMD ["x"]', "ENV A=1"),
            epoch=EPOCH,
            compression=Compression.ZSTD,
        )
        image = commit(node, options=options)
        config, manifest = documents(node, image)
        assert config["created"] == "2023-11-14T22:13:20Z"
        assert config["rootfs"]["diff_ids"] == [
            *map(str, layers(node)),
            str(image.layer.diff_id),
        ]
        assert config["config"]["Cmd"] == ["x"]
        assert config["config"]["Env"] == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]
        assert len(config["history"]) == 3
        assert config["history"][-1] == {
            "created": "2023-11-14T22:13:20Z",
            "created_by": 'snapcore images commit; CMD ["x"]; ENV A=1',
            "author": "me",
            "comment": "why",
        }
        assert manifest["mediaType"] == image.descriptor.media_type == OCI_MANIFEST
        types = [layer["mediaType"] for layer in manifest["layers"]]
        assert types == [f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+zstd"]

    def test_the_same_changes_make_the_same_image(self, node: Node, tmp_path: Path) -> None:
        active(node)
        one = commit(node, options=CommitOptions(epoch=EPOCH))
        node.snapshotter().remove("work")
        active(node)
        again = commit(node, "localhost/again", CommitOptions(epoch=EPOCH))
        assert (one.descriptor, one.chain_id) == (again.descriptor, again.chain_id)
        node.snapshotter().remove("work")
        active(node)
        now = commit(node, "localhost/now")
        assert now.layer.diff_id != one.layer.diff_id

    def test_the_collector_keeps_it_whole(self, node: Node) -> None:
        active(node)
        image = commit(node)
        node.snapshotter().remove("work")
        node.images.remove(BASE)
        node.garbage.collect()
        check = node.images.check("localhost/new", Platform.local())
        assert (check.complete, set(check.snapshots.values())) == (True, {True})
        info = node.content.info(image.layer.descriptor.digest)
        assert info.labels[UNCOMPRESSED] == str(image.layer.diff_id)
        labels = node.content.info(image.descriptor.digest).labels
        assert labels[f"{GC_REF_CONTENT}.l.2"] == str(image.layer.descriptor.digest)
        node.images.remove("localhost/new")
        node.garbage.collect()
        assert list(node.content.walk()) == []

    def test_it_is_kept_whatever_is_discarded(self, tmp_path: Path) -> None:
        root = str(tmp_path / "root")
        unpack = UnpackConfig(discard="after-layer")
        config = NodeConfig(root, f"{root}/state", snapshotters=("native",), unpack=unpack)
        with FakeRegistry() as registry, Node.open(reaching(config, registry)) as node:
            serve(registry, layout(tmp_path / "layout"))
            name = f"{registry.host}/base:latest"

            async def pull() -> None:
                await node.pull(name, PullOptions(plain_http=True))

            trio.run(pull)
            check = node.images.check(name, Platform.local())
            assert check.status == "discarded"
            node.snapshotter().prepare("work", chain(node, name))
            commit(node)
            node.garbage.collect()
            check = node.images.check("localhost/new", Platform.local())
        assert (check.complete, set(check.snapshots.values())) == (True, {True})

    def test_an_image_of_nothing(self, node: Node) -> None:
        wanted = active(node, "")
        image = commit(node)
        config, _ = documents(node, image)
        assert image.base is None
        assert config["architecture"] == Platform.local().architecture
        assert image.chain_id == str(image.layer.diff_id)
        assert digest_of(node, "localhost/new") == wanted

    def test_docker_types_become_oci_ones(self, node: Node, tmp_path: Path) -> None:
        load(node, layout(tmp_path / "docker", docker=True).directory, "localhost/docker")
        active(node)
        image = commit(node, options=CommitOptions(base="localhost/docker"))
        _, manifest = documents(node, image)
        assert {layer["mediaType"] for layer in manifest["layers"]} == {f"{OCI_LAYER}+gzip"}
        assert image.base == node.images.get("localhost/docker").target

    def test_without_its_snapshot(self, node: Node) -> None:
        active(node)
        image = commit(node, options=CommitOptions(unpack=False))
        info = node.content.info(image.layer.descriptor.digest)
        assert info.labels == {UNCOMPRESSED: str(image.layer.diff_id)}
        check_nothing_left(node, "work")
        assert node.images.check("localhost/new", Platform.local()).complete

    def test_only_an_active_one_can_be(self, node: Node) -> None:
        node.snapshotter().view("work", chain(node))
        with pytest.raises(FailedPrecondition, match="'work' is view"):
            commit(node)

    def test_a_name_is_moved_on_demand_only(self, node: Node) -> None:
        active(node)
        with pytest.raises(AlreadyExists, match="localhost/base"):
            commit(node, BASE)
        image = commit(node, BASE, CommitOptions(force=True))
        assert node.images.get(BASE).target == image.descriptor

    def test_a_malformed_change_is_refused_at_once(self, node: Node) -> None:
        active(node)
        with pytest.raises(InvalidArgument, match="RUN"):
            commit(node, options=CommitOptions(changes=("RUN x",)))
        check_nothing_left(node, "work")


class TestBase:
    """Which image a snapshot stands on."""

    def other(self, node: Node, tmp_path: Path) -> Descriptor:
        """Have another image of the same layers, with a config of its own."""
        builder = layout(tmp_path / "other")
        found = json.loads((builder.directory / "index.json").read_bytes())["manifests"][0]
        manifest = json.loads(builder.blob_path(Digest.parse(found["digest"])).read_bytes())
        config = json.loads(
            builder.blob_path(Digest.parse(manifest["config"]["digest"])).read_bytes()
        )
        config["created"] = "2020-01-01T00:00:00Z"
        manifest["config"] |= _stored(builder, config)
        made = Descriptor(OCI_MANIFEST, Digest.parse(_stored(builder, manifest)["digest"]), 1)
        size = builder.blob_path(made.digest).stat().st_size
        builder.tag("other", replace(made, size=size))
        load(node, builder.directory, "localhost/other", unpack=False)
        return node.images.get("localhost/other:other").target

    def test_one_of_several_must_be_named(self, node: Node, tmp_path: Path) -> None:
        other = self.other(node, tmp_path)
        node.images.remove("localhost/other:latest")
        active(node)
        with pytest.raises(InvalidArgument, match=r"localhost/base.*localhost/other"):
            commit(node)
        image = commit(node, options=CommitOptions(base="localhost/other:other"))
        assert image.base == other

    @pytest.mark.needs_root
    def test_the_one_that_was_mounted_goes_first(self, node: Node, tmp_path: Path) -> None:
        other = self.other(node, tmp_path)
        place = tmp_path / "mnt"
        place.mkdir()
        record = node.mount("localhost/other:other", str(place), rw=True)
        (place / "etc/motd").write_bytes(b"mounted\n")

        async def run() -> CommittedImage:
            return await node.commit(record.key, "localhost/new")

        image = trio.run(run)
        wanted = tree_digest(str(place)).digest
        node.unmount(str(place), remove=True)
        assert image.base == other
        assert digest_of(node, "localhost/new") == str(wanted)

    def test_one_that_is_not_below_is_refused(self, node: Node, tmp_path: Path) -> None:
        builder = LayoutBuilder(tmp_path / "else")
        builder.add_image("latest", [builder.add_layer(tar_of(File("x")))])
        load(node, builder.directory, "localhost/else", unpack=False)
        active(node)
        with pytest.raises(InvalidArgument, match="'localhost/else'"):
            commit(node, options=CommitOptions(base="localhost/else"))

    def test_none_that_has_it(self, node: Node) -> None:
        active(node)
        node.images.remove(BASE)
        with pytest.raises(NotFound, match="no image of this node"):
            commit(node)


def _stored(builder: LayoutBuilder, document: object) -> dict[str, Any]:
    blob = builder.add_blob(json.dumps(document).encode(), OCI_MANIFEST)
    return {"digest": str(blob.digest), "size": blob.size}
