"""Pulling with the lazy backend: what is fetched, what is shown, and what stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import call
from support.faults import Reply, Seen
from support.images import File, tar_of, whiteout
from support.layout import Layer
from support.lazyimages import BIG, LazyPlace, estargz_layer, lazy_place
from support.nodes import Watched, until

from snapcore.archive import TreeDigest, tree_digest
from snapcore.mount import mounts_below, temporary_mount
from snapcore.node import Node, PullOptions, Verdict
from snapcore.oci import Digest, Platform
from snapcore.snapshots import Kind, SnapshotStatus, no_checkpoint
from snapcore.unpack import Event, LayerPlanned

pytestmark = [pytest.mark.needs_root, pytest.mark.anyio]

BASE = (
    File("etc/", mode=0o755),
    File("etc/motd", b"hello\n"),
    File("etc/gone", b"deleted above\n"),
    File("usr/bin/", mode=0o755),
    File("bin", link="usr/bin"),
    File("usr/bin/tool", b"#!/bin/sh\n", mode=0o4755),
    File("big", BIG),
)
TOP = (
    whiteout("etc/gone"),
    File("bin/other", hardlink="usr/bin/tool"),
    File("etc/more", b"from the second layer\n", xattrs={"user.note": "kept"}),
    File("large", BIG[::-1]),
)


@pytest.fixture
def place(tmp_path: Path, census: None) -> Iterator[LazyPlace]:
    with lazy_place(tmp_path) as made:
        yield made
    assert mounts_below(str(tmp_path)) == ()


def two_layers(place: LazyPlace) -> tuple[Layer, Layer]:
    layers = (
        estargz_layer(place.builder, *BASE),
        estargz_layer(place.builder, *TOP),
    )
    place.publish(*layers)
    return layers


async def pull(node: Node, place: LazyPlace) -> None:
    await node.pull(place.name, PullOptions(plain_http=True))


def statuses(node: Node, place: LazyPlace, name: str = "fuse") -> list[SnapshotStatus]:
    reports = node.images.status(place.name, Platform.local(), (name,))
    found = [report.status for report in reports]
    assert None not in found
    return [status for status in found if status is not None]


def digest_of(node: Node, place: LazyPlace, snapshotter: str) -> TreeDigest:
    with node.mounted(place.name, snapshotter=snapshotter) as root:
        return tree_digest(root)


async def test_a_pull_fetches_indexes_alone_and_reads_fetch_the_rest(place: LazyPlace) -> None:
    layers = two_layers(place)
    with place.node() as node:
        await pull(node, place)
        after_pull = [place.fetched(layer) for layer in layers]
        assert not any(node.content.exists(layer.descriptor.digest) for layer in layers)
        assert [status.lazy for status in statuses(node, place)] == [True, True]
        with node.mounted(place.name) as root:
            assert Path(root, "etc/motd").read_bytes() == b"hello\n"
            assert Path(root, "etc/more").read_bytes() == b"from the second layer\n"
            assert os.getxattr(f"{root}/etc/more", "user.note") == b"kept"
            assert sorted(os.listdir(f"{root}/etc")) == ["more", "motd"]
            assert os.stat(f"{root}/usr/bin/tool").st_mode & 0o7777 == 0o4755
            # A file of the layer below, by a name that the layer above gave it.
            assert Path(root, "bin/other").read_bytes() == b"#!/bin/sh\n"
        base, top = statuses(node, place)
        assert base.served == len(b"hello\n") + len(b"#!/bin/sh\n")
        assert (base.format, base.size) == ("estargz", layers[0].descriptor.size)
        assert 0 < base.fetched < 5_000
        assert not base.complete
        assert top.served == len(b"from the second layer\n")
        for layer, before, status in zip(layers, after_pull, (base, top), strict=True):
            assert place.fetched(layer) - before == status.fetched


async def test_lazy_layers_are_verified_as_they_are_read(place: LazyPlace) -> None:
    two_layers(place)
    with place.node("fuse", "overlay") as node:
        await pull(node, place)
        fetched = [status.fetched for status in statuses(node, place)]
        for name, verdict in (("fuse", Verdict.LAZY), ("overlay", Verdict.INTACT)):
            snapshotter = node.snapshotter(name)
            found = [
                node.integrity.verify(snapshotter, info.name, no_checkpoint).verdict
                for info in snapshotter.walk()
            ]
            assert found == [verdict] * 2
        # Nothing was brought here for it.
        assert [status.fetched for status in statuses(node, place)] == fetched


async def test_the_lazy_tree_read_whole_has_the_eager_ones_digest(place: LazyPlace) -> None:
    two_layers(place)
    with place.node("fuse", "overlay") as node:
        await pull(node, place)
        assert [status.lazy for status in statuses(node, place)] == [True, True]
        assert [status.lazy for status in statuses(node, place, "overlay")] == [False, False]
        assert digest_of(node, place, "fuse") == digest_of(node, place, "overlay")
        assert all(status.misses and not status.error for status in statuses(node, place))


async def test_a_killed_daemon_is_replaced_without_network(place: LazyPlace) -> None:
    place.options["deadline"] = 2
    two_layers(place)
    with place.node() as node:
        await pull(node, place)
        with node.mounted(place.name) as root:
            assert Path(root, "big").read_bytes() == BIG
    place.kill_daemon()
    # Whatever asks for anything gets nothing.
    place.registry.__exit__()
    with place.node() as node, node.mounted(place.name) as root:
        assert Path(root, "big").read_bytes() == BIG
        begun = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            Path(root, "large").read_bytes()
        assert time.monotonic() - begun < 20
        assert Path(root, "etc/more").exists()
        assert statuses(node, place)[1].error


async def test_removal_works_offline_and_leaves_nothing(place: LazyPlace) -> None:
    two_layers(place)
    with place.node() as node:
        await pull(node, place)
        with node.mounted(place.name) as root:
            assert Path(root, "big").read_bytes() == BIG
        place.registry.__exit__()
        daemon = Watched(place.daemon.ensure().pid)
        snapshotter = node.snapshotter("fuse")
        names = [info.name for info in snapshotter.walk() if info.parent]
        names += [info.name for info in snapshotter.walk() if not info.parent]
        for name in names:
            snapshotter.remove(name)
        snapshotter.cleanup()
        # The last one takes the daemon along.
        assert daemon.wait()
        daemon.close()
    assert os.listdir(place.places.snapshots) == []
    left = set(os.listdir(place.places.directory))
    assert left <= {"cache", "content", "daemon.lock", "daemon.log", "lock", "owner", "blobs"}
    with place.node() as node:
        assert not place.daemon.wanted()
        assert list(node.snapshotter("fuse").walk()) == []


@pytest.mark.parametrize(
    ("reference", "options", "why"),
    [
        pytest.param("", {"min_layer_size": 1 << 30}, "min_layer_size", id="too-small"),
        pytest.param("", {}, "no index", id="no-index"),
        pytest.param("", {"index_trust": "never"}, "index_trust", id="not-trusted"),
        pytest.param("@", {}, "pulled by digest", id="by-digest"),
    ],
)
async def test_a_layer_that_cannot_be_lazy_is_unpacked_and_says_why(
    place: LazyPlace, reference: str, options: dict[str, str], why: str
) -> None:
    place.options.update(options)
    layer = place.builder.add_layer(tar_of(*BASE))
    place.publish(layer)
    name = place.name
    if reference:
        digest = place.builder.add_image("other", [layer]).digest
        name = f"{place.registry.host}/repo@{digest}"
    with place.node() as node:
        await node.pull(name, PullOptions(plain_http=True))
        (report,) = node.images.status(name, Platform.local(), ("fuse",))
        assert report.status is not None
        assert not report.status.lazy
        assert why in report.status.reason
        with node.mounted(name) as root:
            assert Path(root, "big").read_bytes() == BIG
        assert node.content.exists(layer.descriptor.digest)
    # Nothing is lazy, so nothing stays.
    assert mounts_below(place.places.root) == ()
    assert not os.path.exists(place.places.socket)


async def test_the_plan_is_told_while_pulling_and_what_came_of_it_afterwards(
    place: LazyPlace,
) -> None:
    place.options["min_layer_size"] = 1000
    lazy = estargz_layer(place.builder, *BASE)
    small = place.builder.add_layer(tar_of(File("small", b"x")))
    bare = place.builder.add_layer(tar_of(File("bare", BIG)))
    linked = estargz_layer(place.builder, File("linked", hardlink="bare"), File("top", BIG))
    place.publish(lazy, small, bare, linked)
    told: list[LayerPlanned] = []

    def note(event: Event) -> None:
        if isinstance(event, LayerPlanned):
            told.append(event)

    with place.node() as node:
        result = await node.pull(place.name, PullOptions(plain_http=True), events=note)
        reports = result.manifests[0].layers
        assert reports == node.images.status(place.name, Platform.local(), ("fuse",))
    order = [lazy, small, bare, linked]
    whose = [[e for e in told if e.descriptor == layer.descriptor] for layer in order]
    assert [(e.lazy, e.detail) for e in whose[0]] == [(True, "estargz")]
    assert ["min_layer_size" in e.detail for e in whose[1]] == [True]
    assert ["no index is published" in e.detail for e in whose[2]] == [True]
    # What only shows when it is made over the layers below is told in addition.
    assert [e.lazy for e in whose[3]] == [True, False]
    assert "hard link" in whose[3][1].detail
    final = [(each[-1].lazy, each[-1].detail) for each in whose]
    statuses = [report.status for report in reports if report.status]
    assert final == [(s.lazy, s.format or s.reason) for s in statuses]
    # Being asked twice costs nothing: a manifest, a config, and each index once.
    for layer in (lazy, linked):
        assert len(place.registry.requests(f"/blobs/{layer.descriptor.digest}")) <= 2


async def test_layers_that_will_be_unpacked_are_downloaded_at_the_same_time(
    place: LazyPlace,
) -> None:
    place.options["min_layer_size"] = 1 << 30
    layers = [place.builder.add_layer(tar_of(File(f"f{n}", b"x"))) for n in range(3)]
    place.publish(*layers)
    other = threading.Event()
    came: list[bool] = []

    def wait_for_other(_: Seen, reply: Reply) -> Reply:
        came.append(other.wait(10))
        return reply

    def go(_: Seen, reply: Reply) -> Reply:
        other.set()
        return reply

    place.registry.spoil(f"/blobs/{layers[0].descriptor.digest}", wait_for_other)
    place.registry.spoil(f"/blobs/{layers[2].descriptor.digest}", go)
    with place.node() as node:
        await pull(node, place)
    assert came == [True]


def test_the_plan_is_shown_by_the_command(place: LazyPlace) -> None:
    bare = place.builder.add_layer(tar_of(File("bare", BIG)))
    place.publish(estargz_layer(place.builder, *BASE), bare)
    config = place.directory / "config.toml"
    config.write_text("[plugins.fuse]\nmin_layer_size = 1\n")
    command = ("--root", str(place.root), "--config", str(config), "--snapshotter", "fuse")
    shown = call(*command, "pull", "--plain-http", place.name)
    assert shown.code == 0, shown.err
    assert "fuse: lazy (estargz)\n" in shown.err
    assert f"{bare.descriptor.digest.hex[:12]}: fuse: unpacked, not lazy: no index" in shown.err
    assert "1 of 2 layers" in shown.out
    (record,) = call(*command, "--format", "json", "pull", "--plain-http", place.name).records()
    assert isinstance(record["manifests"], list)
    rows = record["manifests"][0]["layers"]
    assert [(row["lazy"], row["format"]) for row in rows] == [(True, "estargz"), (False, "")]
    assert "no index" in rows[1]["reason"]


async def test_unpacked_layers_stand_beside_lazy_ones(place: LazyPlace) -> None:
    lazy = estargz_layer(place.builder, *BASE)
    local = place.builder.add_layer(
        tar_of(
            whiteout("etc/gone"),
            File("bin/linked", hardlink="usr/bin/tool"),
            File("etc/local", b"unpacked\n"),
        )
    )
    above = estargz_layer(
        place.builder,
        File("etc/local", hardlink="etc/motd"),
        File("bin/last", BIG[:1000]),
    )
    on_local = estargz_layer(place.builder, File("linked", hardlink="bin/linked"))
    place.publish(lazy, local, above, on_local)
    with place.node("fuse", "overlay") as node:
        await pull(node, place)
        found = statuses(node, place)
        # The last one needs the bytes of a file that the unpacked layer has.
        assert [status.lazy for status in found] == [True, False, True, False]
        assert "hard link" in found[3].reason
        assert digest_of(node, place, "fuse") == digest_of(node, place, "overlay")


async def test_a_writable_snapshot_of_lazy_layers_can_be_committed(
    place: LazyPlace, tmp_path: Path
) -> None:
    two_layers(place)
    target = tmp_path / "rw"
    target.mkdir()
    with place.node() as node:
        await pull(node, place)
        record = node.mount(place.name, str(target), rw=True)
        with open(target / "etc/motd", "ab") as file:
            file.write(b"more\n")
        (target / "big").unlink()
        node.unmount(str(target))
        snapshotter = node.snapshotter("fuse")
        assert snapshotter.usage(record.key).size < len(BIG)
        snapshotter.commit("mine", record.key)
        node.snapshotter("fuse").prepare("again", "mine")
        (mount,) = snapshotter.mounts("again")
        with temporary_mount((mount,)) as root:
            assert Path(root, "etc/motd").read_bytes() == b"hello\nmore\n"
            assert not Path(root, "big").exists()
        assert snapshotter.stat("mine").kind is Kind.COMMITTED
        snapshotter.remove("again")


async def test_a_completed_layer_needs_its_registry_no_more(place: LazyPlace) -> None:
    place.options["complete"] = True
    layers = two_layers(place)
    with place.node() as node:
        await pull(node, place)
        until(lambda: all(s.complete for s in statuses(node, place)), "both layers are complete")
        place.registry.__exit__()
        with node.mounted(place.name) as root:
            assert Path(root, "large").read_bytes() == BIG[::-1]
    place.kill_daemon()
    with place.node() as node, node.mounted(place.name) as root:
        assert Path(root, "big").read_bytes() == BIG
        assert all(status.complete for status in statuses(node, place))
    for layer in layers:
        assert os.path.exists(place.places.blob(layer.descriptor.digest))


async def test_a_layer_that_is_not_what_its_config_says_is_never_complete(
    place: LazyPlace,
) -> None:
    place.options["complete"] = True
    honest = estargz_layer(place.builder, *BASE)
    lying = Layer(honest.descriptor, Digest.of(b"another tar"))
    place.publish(lying)
    with place.node() as node:
        await pull(node, place)
        until(lambda: "diff ID" in statuses(node, place)[0].error, "the lie is noticed")
        assert not statuses(node, place)[0].complete
        assert not os.path.exists(place.places.blob(honest.descriptor.digest))


_IN_NAMESPACE = """
import sys
from pathlib import Path
import trio
from snapcore.config import NodeConfig
from snapcore.node import Node, PullOptions
from snapcore.oci import Platform
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings

root, name = sys.argv[1:]
places = Places(root + "/snapshotters/fuse")
config = NodeConfig(
    root=root,
    state=root + "-state",
    snapshotters=("fuse",),
    plugins={"fuse": {"min_layer_size": 1}},
)
with Node.open(config) as node:
    print("userxattr" in node.snapshotter().capabilities)
    trio.run(node.pull, name, PullOptions(plain_http=True))
    reports = node.images.status(name, Platform.local())
    print([report.status.lazy for report in reports])
    with node.mounted(name) as seen:
        print(Path(seen, "etc/more").read_text(), end="")
        print(sorted(path.name for path in Path(seen, "etc").iterdir()))
Daemon(places, Settings()).stop()
"""


def test_it_works_in_a_user_namespace(place: LazyPlace) -> None:
    two_layers(place)
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable]
    run = subprocess.run(
        [*command, "-c", _IN_NAMESPACE, str(place.directory / "theirs"), place.name],
        check=False,
        capture_output=True,
        text=True,
    )
    if "unshare failed" in run.stderr:
        pytest.skip(f"no user namespaces here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "True",
        "[True, True]",
        "from the second layer",
        "['more', 'motd']",
    ]
