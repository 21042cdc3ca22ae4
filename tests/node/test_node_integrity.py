"""Snapshots are compared with what was recorded when they were made, and made again in place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from support.faults import FakeRegistry, status
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout
from support.nodes import serve

from snapcore import labels
from snapcore.archive import tree_digest
from snapcore.config import Discard, NodeConfig
from snapcore.errors import DataLoss, FailedPrecondition, PermissionDenied, Unavailable
from snapcore.mount import mount_all, unmount
from snapcore.node import Node, PullOptions, SnapshotCheck, UnpackChoice, Verdict
from snapcore.snapshots import Durability, Snapshotter, State, layer_from_view, no_checkpoint

BASE = tar_of(
    File("etc/"),
    *(
        File(f"etc/{name}", name.encode())
        for name in ("content", "size", "mode", "owner", "time", "missing", "type")
    ),
    File("etc/twin", b"the same\n"),
    File("etc/twin2", hardlink="etc/twin"),
    File("etc/link", link="content"),
    File("etc/note", b"noted", xattrs={"user.note": "one"}),
    File("usr/share/doc/readme", b"read me"),
    File("usr/share/gone", b"soon"),
)
TOP = tar_of(
    File("app/run", b"#!/bin/sh\n", 0o755), whiteout("usr/share/gone"), opaque("usr/share/doc")
)
OVER = tar_of(File("app/data", b"0" * 5000))

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]


@pytest.fixture(params=["native", "overlay", "fuse"])
def each_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["native", "overlay"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add_image("latest", [builder.add_layer(layer) for layer in (BASE, TOP, OVER)])
    with FakeRegistry() as opened:
        serve(opened, builder)
        yield opened


@pytest.fixture
def config(tmp_path: Path, registry: FakeRegistry) -> NodeConfig:
    found = NodeConfig.at(str(tmp_path / "root"))
    return replace(found, registry=replace(found.registry, plain_http=(registry.host,)))


@pytest.fixture
def node(config: NodeConfig) -> Iterator[Node]:
    with Node.open(config) as opened:
        yield opened


def pull(node: Node, registry: FakeRegistry, backend: str, discard: Discard = "never") -> list[str]:
    """Pull the image; return the names of its snapshots, the base layer's first."""
    choice = UnpackChoice(snapshotters=(backend,), discard=discard)
    result = trio.run(lambda: node.pull(f"{registry.host}/app:latest", PullOptions(choice)))
    return chain(node.snapshotter(backend), result.chain_id)


def chain(snapshotter: Snapshotter, top: str) -> list[str]:
    names = [top]
    while parent := snapshotter.stat(names[0]).parent:
        names.insert(0, parent)
    return names


def layer(node: Node, backend: str, name: str) -> Path:
    """Return the directory of a snapshot's own layer."""
    with node.integrity.view_of(node.snapshotter(backend), name, no_checkpoint) as mounts:
        return Path(layer_from_view(mounts))


def verify(node: Node, backend: str, name: str) -> SnapshotCheck:
    return node.integrity.verify(node.snapshotter(backend), name, no_checkpoint)


def repair(node: Node, backend: str, check: SnapshotCheck) -> SnapshotCheck:
    return trio.run(node.repair.repair, node.snapshotter(backend), check)


def overwrite(path: Path) -> None:
    """Change a byte as a bad disk does: size and times stay."""
    found = path.stat()
    path.write_bytes(b"?" + path.read_bytes()[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def keeping_time(directory: Path, change: Callable[[Path], object]) -> None:
    """Change something in a directory whose own time stays."""
    found = directory.stat()
    change(directory)
    os.utime(directory, ns=(found.st_atime_ns, found.st_mtime_ns))


def separate(directory: Path) -> None:
    """Make of two names of one file two files."""
    data, found = (directory / "twin2").read_bytes(), (directory / "twin2").stat()
    (directory / "twin2").unlink()
    (directory / "twin2").write_bytes(data)
    os.utime(directory / "twin2", ns=(found.st_atime_ns, found.st_mtime_ns))


def relink(directory: Path) -> None:
    times = (directory / "link").lstat().st_mtime_ns
    (directory / "link").unlink()
    (directory / "link").symlink_to("shadow")
    os.utime(directory / "link", ns=(times, times), follow_symlinks=False)


def retype(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[tuple[str, str], Callable[[Path], object]] = {
    ("etc/content", "content"): lambda top: overwrite(top / "etc/content"),
    ("etc/size", "size"): lambda top: os.truncate(top / "etc/size", 3),
    ("etc/mode", "mode"): lambda top: (top / "etc/mode").chmod(0o4755),
    ("etc/owner", "owner"): lambda top: os.chown(top / "etc/owner", 0, 7),
    ("etc/time", "time"): lambda top: os.utime(top / "etc/time", (1, 1)),
    ("etc/missing", "missing"): lambda top: (top / "etc/missing").unlink(),
    ("etc/extra", "extra"): lambda top: (top / "etc/extra").write_text(""),
    ("etc/twin2", "link"): lambda top: separate(top / "etc"),
    ("etc/link", "target"): lambda top: relink(top / "etc"),
    ("etc/type", "type"): lambda top: retype(top / "etc/type"),
    ("etc/note", "xattr.user.note"): lambda top: os.setxattr(top / "etc/note", "user.note", b"2"),
}


def test_each_kind_of_damage_is_found_named_and_repaired(
    node: Node, registry: FakeRegistry, each_backend: str
) -> None:
    backend = each_backend
    names = pull(node, registry, backend)
    assert [verify(node, backend, name).verdict for name in names] == [Verdict.INTACT] * 3
    with node.mounted(f"{registry.host}/app", snapshotter=backend) as root:
        whole = tree_digest(root)
    place = layer(node, backend, names[0])
    for harm in DAMAGE.values():
        keeping_time(place / "etc", partial(lambda harm, _etc: harm(place), harm))
    check = verify(node, backend, names[0])
    assert check.verdict is Verdict.DAMAGED
    assert {(one.path, one.kind) for one in check.damage} == {*DAMAGE, ("etc/size", "time")}
    # Nobody else is blamed.
    assert [verify(node, backend, name).verdict for name in names[1:]] == [Verdict.INTACT] * 2

    before = {info.name: info for info in node.snapshotter(backend).walk()}
    done = repair(node, backend, check)
    assert (done.verdict, done.trouble) == (Verdict.REPAIRED, "")
    after = {info.name: info for info in node.snapshotter(backend).walk()}
    assert [(i.name, i.parent, i.labels.keys()) for i in after.values()] == [
        (i.name, i.parent, i.labels.keys()) for i in before.values()
    ]
    assert [verify(node, backend, name).verdict for name in names] == [Verdict.INTACT] * 3
    with node.mounted(f"{registry.host}/app", snapshotter=backend) as root:
        assert tree_digest(root) == whole


def test_a_lost_opaque_mark_is_damage(node: Node, registry: FakeRegistry) -> None:
    names = pull(node, registry, "overlay")
    place = layer(node, "overlay", names[1])
    assert stat.S_ISCHR((place / "usr/share/gone").lstat().st_mode)
    os.removexattr(place / "usr/share/doc", "trusted.overlay.opaque")
    (one,) = verify(node, "overlay", names[1]).damage
    assert (one.path, one.kind, one.found) == (
        "usr/share/doc", "xattr.trusted.overlay.opaque", ""
    )  # fmt: skip


def test_a_layer_that_is_gone_is_damage(node: Node, registry: FakeRegistry, backend: str) -> None:
    names = pull(node, registry, backend)
    place = layer(node, backend, names[2])
    place.rename(place.with_name("elsewhere"))
    check = verify(node, backend, names[2])
    assert check.verdict is Verdict.DAMAGED
    assert "No such file" in check.reason
    assert repair(node, backend, check).verdict is Verdict.REPAIRED


def test_discarded_layers_are_fetched_again_for_a_repair(
    node: Node, registry: FakeRegistry, backend: str
) -> None:
    names = pull(node, registry, backend, "after-image")
    node.garbage.collect()
    overwrite(layer(node, backend, names[0]) / "etc/content")
    asked = len(registry.requests("GET"))
    assert repair(node, backend, verify(node, backend, names[0])).verdict is Verdict.REPAIRED
    fetched = [seen.path for seen in registry.requests("GET")[asked:] if "/blobs/" in seen.path]
    assert len(fetched) == 1
    assert verify(node, backend, names[0]).verdict is Verdict.INTACT


def test_without_its_layer_it_stays_in_use_until_that_can_be_had(
    node: Node, registry: FakeRegistry
) -> None:
    backend = "overlay"
    names = pull(node, registry, backend, "after-image")
    node.garbage.collect()
    overwrite(layer(node, backend, names[0]) / "etc/content")
    registry.spoil("/blobs/", status(404))
    check = repair(node, backend, verify(node, backend, names[0]))
    assert check.verdict is Verdict.DAMAGED
    assert "cannot be fetched again" in check.trouble
    assert node.snapshotter(backend).stat(names[0]).state is State.DURABLE
    assert repair(node, backend, verify(node, backend, names[0])).verdict is Verdict.REPAIRED


def test_a_layer_that_is_damaged_too_is_mended_first(node: Node, registry: FakeRegistry) -> None:
    backend = "overlay"
    names = pull(node, registry, backend)
    overwrite(layer(node, backend, names[0]) / "etc/content")
    (blob,) = (
        info.digest
        for info in node.content.walk()
        if info.labels.get(labels.UNCOMPRESSED) == names[0]
    )
    path = Path(node.content.path(blob))
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))
    check = repair(node, backend, verify(node, backend, names[0]))
    assert check.verdict is Verdict.DAMAGED
    assert "content verify --repair" in check.trouble
    assert node.snapshotter(backend).stat(names[0]).state is State.DURABLE


def test_what_is_out_of_use_stays_so_until_its_layer_can_be_had(
    node: Node, registry: FakeRegistry
) -> None:
    backend = "overlay"
    names = pull(node, registry, backend, "after-image")
    node.garbage.collect()
    snapshotter = node.snapshotter(backend)
    snapshotter.mark_broken(names[0])
    registry.spoil("/blobs/", status(404))
    check = repair(node, backend, verify(node, backend, names[0]))
    assert check.verdict is Verdict.BROKEN
    assert "cannot be fetched again" in check.trouble
    assert snapshotter.stat(names[0]).state is State.BROKEN
    with pytest.raises(DataLoss, match="broken"):
        snapshotter.view("v", names[2])
    assert verify(node, backend, names[2]).verdict is Verdict.BROKEN
    assert repair(node, backend, verify(node, backend, names[0])).verdict is Verdict.REPAIRED
    assert verify(node, backend, names[2]).verdict is Verdict.INTACT


def test_what_is_mounted_is_not_taken_out_of_use(
    node: Node, registry: FakeRegistry, each_backend: str, tmp_path: Path
) -> None:
    backend = each_backend
    names = pull(node, registry, backend)
    overwrite(layer(node, backend, names[0]) / "etc/content")
    target = tmp_path / "mnt"
    target.mkdir()
    node.mount(f"{registry.host}/app", str(target), snapshotter=backend)
    check = repair(node, backend, verify(node, backend, names[0]))
    assert check.verdict is Verdict.DAMAGED
    assert str(target) in check.trouble
    assert node.snapshotter(backend).stat(names[0]).state is State.DURABLE
    node.unmount(str(target))
    assert repair(node, backend, check).verdict is Verdict.REPAIRED


@pytest.mark.parametrize("position", [0, 2])
def test_nor_what_is_mounted_without_our_knowing(
    node: Node, registry: FakeRegistry, backend: str, tmp_path: Path, position: int
) -> None:
    if backend == "native" and position:
        pytest.skip("a full copy shows nothing of what it was copied from")
    names = pull(node, registry, backend)
    overwrite(layer(node, backend, names[0]) / "etc/content")
    snapshotter = node.snapshotter(backend)
    target = tmp_path / "mnt"
    target.mkdir()
    mount_all(snapshotter.view("by hand", names[position]), str(target), str(tmp_path))
    check = verify(node, backend, names[0])
    assert (
        "by hand" in repair(node, backend, check).trouble
        or str(target) in repair(node, backend, check).trouble
    )
    snapshotter.remove("by hand")
    assert str(target) in repair(node, backend, check).trouble
    assert snapshotter.stat(names[0]).state is State.DURABLE
    unmount(str(target))
    assert repair(node, backend, check).verdict is Verdict.REPAIRED


def test_nor_what_somebody_may_mount(node: Node, registry: FakeRegistry, backend: str) -> None:
    names = pull(node, registry, backend)
    snapshotter = node.snapshotter(backend)
    snapshotter.prepare("container", names[2])
    overwrite(layer(node, backend, names[0]) / "etc/content")
    check = repair(node, backend, verify(node, backend, names[0]))
    assert "'container'" in check.trouble
    assert snapshotter.stat(names[0]).state is State.DURABLE
    with pytest.raises(FailedPrecondition, match="'container'"):
        snapshotter.mark_broken(names[1])


def test_what_belongs_to_no_image_is_left_as_it_is(node: Node, backend: str) -> None:
    snapshotter = node.snapshotter(backend)
    snapshotter.prepare("k")
    (Path(snapshotter.target("k").directory) / "file").write_text("by hand")
    snapshotter.commit("mine", "k")
    assert verify(node, backend, "mine").verdict is Verdict.UNRECORDED
    node.integrity.record(snapshotter, "mine", no_checkpoint)
    assert verify(node, backend, "mine").verdict is Verdict.INTACT
    overwrite(layer(node, backend, "mine") / "file")
    check = repair(node, backend, verify(node, backend, "mine"))
    assert check.verdict is Verdict.DAMAGED
    assert "no image of this node has it" in check.trouble
    assert snapshotter.stat("mine").state is not State.BROKEN


def test_a_record_is_of_one_commit_and_goes_with_it(node: Node) -> None:
    snapshotter = node.snapshotter("native")
    for data in ("old", "new"):
        snapshotter.prepare("k")
        (Path(snapshotter.target("k").directory) / "file").write_text(data)
        snapshotter.commit("mine", "k", labels={"containerd.io/gc.root": "x"})
        if data == "old":
            node.integrity.record(snapshotter, "mine", no_checkpoint)
            snapshotter.remove("mine")
    assert verify(node, "native", "mine").verdict is Verdict.UNRECORDED
    node.integrity.record(snapshotter, "mine", no_checkpoint)
    kept = Path(node.config.root, "inventories", "native")
    node.garbage.collect()
    assert len(os.listdir(kept)) == 1
    assert verify(node, "native", "mine").verdict is Verdict.INTACT
    (kept / f"new-{'0' * 32}-dead").touch()
    snapshotter.remove("mine")
    node.garbage.collect()
    assert os.listdir(kept) == []


@pytest.mark.parametrize("left", [0, 20, -6])
def test_a_torn_record_is_none(node: Node, registry: FakeRegistry, left: int) -> None:
    names = pull(node, registry, "native")
    for path in Path(node.config.root, "inventories", "native").iterdir():
        path.write_bytes(path.read_bytes()[:left])
    check = verify(node, "native", names[0])
    assert (check.verdict, check.reason) == (
        Verdict.UNRECORDED, "what was recorded of it is damaged"
    )  # fmt: skip


def test_nothing_is_recorded_where_nothing_is_promised(
    config: NodeConfig, registry: FakeRegistry
) -> None:
    with Node.open(replace(config, durability=Durability.NONE)) as node:
        names = pull(node, registry, "native")
        assert verify(node, "native", names[0]).verdict is Verdict.UNRECORDED
        assert not Path(config.root, "inventories").exists()


def test_only_a_directory_is_named_of_all_that_is_missing(
    node: Node, registry: FakeRegistry
) -> None:
    names = pull(node, registry, "overlay")
    place = layer(node, "overlay", names[0])
    (place / "usr").rename(place / "us")
    found = [(one.path, one.kind) for one in verify(node, "overlay", names[0]).damage]
    assert found == [(".", "time"), ("us", "extra"), ("usr", "missing")]


def test_it_leaves_no_snapshot_behind(node: Node, registry: FakeRegistry, backend: str) -> None:
    names = pull(node, registry, backend)
    snapshotter = node.snapshotter(backend)

    calls: list[None] = []

    def cancel() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise Unavailable("the caller went away")

    with pytest.raises(Unavailable):
        node.integrity.verify(snapshotter, names[0], cancel)
    assert sorted(info.name for info in snapshotter.walk()) == sorted(names)
    directories = os.listdir(Path(snapshotter.root, "snapshots"))
    assert len(directories) == len(names)


def test_a_root_that_cannot_be_written_is_not_verified(
    node: Node, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = pull(node, registry, "native")
    node.close()
    monkeypatch.setattr("snapcore.node.ground.is_read_only", lambda _root: True)
    with Node.open(node.config) as again, pytest.raises(PermissionDenied):
        again.integrity.verify(again.snapshotter("native"), names[0], no_checkpoint)
