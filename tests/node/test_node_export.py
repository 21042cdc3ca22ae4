"""Exporting: the same bytes always, whole or not at all, and what other tools make of it."""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.images import run_tool, skopeo_copy, tiny_layout
from support.layout import File, LayoutBuilder, tar_of

from snapcore.config import NodeConfig
from snapcore.errors import (
    AlreadyExists,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SnapcoreError,
)
from snapcore.node import Node, UnpackChoice
from snapcore.oci import Descriptor, Digest, Platform
from snapcore.unpack import Event, SendDone, SendStarted

NAME = "localhost/tiny:latest"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that has the tiny image with docker's media types."""
    with Node.open(NodeConfig.at(str(tmp_path / "root"))) as opened:
        load(opened, tiny_layout(tmp_path / "layout", docker=True).directory, "localhost/tiny")
        yield opened


def load(node: Node, source: Path | int, name: str = "") -> dict[str, Descriptor]:
    async def run() -> dict[str, Descriptor]:
        path = source if isinstance(source, int) else str(source)
        choice = UnpackChoice(unpack=False)
        done = await node.import_(path, name=name, choice=choice)
        return {result.reference: result.descriptor for result in done}

    return trio.run(run)


def write(
    node: Node, target: Path | int, kind: str = "oci", *names: str, everything: bool = False
) -> list[Event]:
    told: list[Event] = []

    async def run() -> None:
        path = target if isinstance(target, int) else str(target)
        await node.export(
            names or (NAME,), path, kind=kind, all_platforms=everything, events=told.append
        )

    trio.run(run)
    return told


def two_platforms(node: Node, tmp_path: Path) -> Descriptor:
    """Import an index of which only this host's manifest is here."""
    builder = LayoutBuilder(tmp_path / "several")
    manifests = []
    for platform in (Platform.local(), Platform.parse("linux/riscv64")):
        layer = builder.add_layer(tar_of(File("etc/platform", str(platform).encode())))
        manifests.append(builder.add_image(None, [layer], platform=platform))
    builder.add_index("latest", manifests)
    load(node, builder.directory, "localhost/several")
    return manifests[0]


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_the_same_images_give_the_same_bytes(node: Node, tmp_path: Path, kind: str) -> None:
    write(node, tmp_path / "one", kind)
    os.utime(tmp_path / "root/content/blobs/sha256")
    write(node, tmp_path / "two", kind)
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    reading, writing = os.pipe()
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(_drain(reading)))
    reader.start()
    write(node, writing, kind)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert read == [data]


def _drain(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", ["directory", "oci", "docker"])
def test_what_went_out_comes_in_equal(node: Node, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    target = node.images.get(NAME).target
    write(node, out, kind)
    with Node.open(NodeConfig.at(str(tmp_path / "other"))) as other:
        (found,) = load(other, out).items()
        assert [info.digest for info in other.content.walk()] == [
            info.digest for info in node.content.walk()
        ]
    name, descriptor = found
    assert name == NAME
    assert (descriptor.digest, descriptor.size) == (target.digest, target.size)
    assert descriptor.media_type == target.media_type


def test_a_plain_tar_lists_sorted_entries_without_times(node: Node, tmp_path: Path) -> None:
    write(node, tmp_path / "out.tar", "docker")
    lines = run_tool("tar", "--numeric-owner", "-tvf", str(tmp_path / "out.tar"), "--utc")
    names = [line.split()[-1] for line in lines.splitlines()]
    assert names == sorted(names)
    assert {"index.json", "manifest.json", "oci-layout"} < set(names)
    assert {" ".join(line.split()[3:5]) for line in lines.splitlines()} == {"1970-01-01 00:00"}
    assert {line.split()[1] for line in lines.splitlines()} == {"0/0"}


def test_skopeo_reads_every_kind(node: Node, tmp_path: Path) -> None:
    (target,) = load(node, gzip_layout(tmp_path / "gz"), "localhost/gz").values()
    for kind, name in (("directory", "dir"), ("oci", "oci.tar"), ("docker", "docker.tar")):
        write(node, tmp_path / name, kind, "localhost/gz")
    for source in (f"oci:{tmp_path}/dir:latest", f"oci-archive:{tmp_path}/oci.tar:latest"):
        raw = run_tool("skopeo", "inspect", "--raw", source)
        assert Digest.of(raw.encode()) == target.digest
    shown = json.loads(run_tool("skopeo", "inspect", f"docker-archive:{tmp_path}/docker.tar"))
    assert len(shown["Layers"]) == 1
    skopeo_copy(
        f"docker-archive:{tmp_path}/docker.tar:localhost/gz:latest", f"oci:{tmp_path}/copied:latest"
    )
    config = json.loads(run_tool("skopeo", "inspect", "--config", f"oci:{tmp_path}/copied:latest"))
    assert len(config["rootfs"]["diff_ids"]) == 1


def test_what_skopeo_writes_is_imported(node: Node, tmp_path: Path) -> None:
    load(node, gzip_layout(tmp_path / "gz"), "localhost/gz")
    write(node, tmp_path / "dir", "directory", "localhost/gz")
    source = f"oci:{tmp_path}/dir:latest"
    skopeo_copy(source, f"docker-archive:{tmp_path}/d.tar:example.org/a/b:3")
    skopeo_copy(source, f"oci-archive:{tmp_path}/o.tar:tag")
    assert list(load(node, tmp_path / "d.tar")) == ["example.org/a/b:3"]
    assert list(load(node, tmp_path / "o.tar")) == ["localhost/o:tag"]
    for name in ("example.org/a/b:3", "localhost/o:tag"):
        assert node.images.check(name, Platform.local()).complete


@pytest.mark.needs_root
def test_umoci_unpacks_an_exported_layout(node: Node, tmp_path: Path) -> None:
    load(node, gzip_layout(tmp_path / "oci"), "localhost/gz")
    write(node, tmp_path / "out", "directory", "localhost/gz")
    run_tool("umoci", "unpack", "--image", f"{tmp_path}/out:latest", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/etc/motd").read_bytes() == b"hello\n"


def gzip_layout(directory: Path) -> Path:
    builder = LayoutBuilder(directory)
    layer = builder.add_layer(tar_of(File("etc/", mode=0o755), File("etc/motd", b"hello\n")))
    builder.add_image("latest", [layer])
    return directory


def test_one_platform_of_several(node: Node, tmp_path: Path) -> None:
    here = two_platforms(node, tmp_path)
    write(node, tmp_path / "out.tar", "docker", "localhost/several", NAME)
    with Node.open(NodeConfig.at(str(tmp_path / "other"))) as other:
        found = load(other, tmp_path / "out.tar")
    assert found["localhost/several:latest"].digest == here.digest
    assert NAME in found


@pytest.mark.parametrize("kind", ["directory", "oci"])
def test_all_platforms_go_out_and_come_in_bit_for_bit(
    node: Node, tmp_path: Path, kind: str
) -> None:
    builder = LayoutBuilder(tmp_path / "several")
    manifests = []
    for name in ("linux/amd64", "linux/arm64/v8", "linux/riscv64"):
        layer = builder.add_layer(tar_of(File("etc/platform", name.encode())))
        manifests.append(builder.add_image(None, [layer], platform=Platform.parse(name)))
    index = builder.add_index("latest", manifests)

    async def run(target: Node, source: Path, name: str) -> None:
        choice = UnpackChoice(all_platforms=True, unpack=False)
        await target.import_(str(source), name=name, choice=choice)

    trio.run(run, node, builder.directory, "localhost/several")
    write(node, tmp_path / "out", kind, "localhost/several", everything=True)
    with Node.open(NodeConfig.at(str(tmp_path / "other"))) as other:
        trio.run(run, other, tmp_path / "out", "")
        (found,) = other.images.list()
        assert (found.name, found.target.digest) == ("localhost/several:latest", index.digest)
        here = {path.name: path.read_bytes() for path in blobs(builder.directory)}
        there = {path.name: path.read_bytes() for path in blobs(tmp_path / "other/content")}
    assert here == there
    with pytest.raises(InvalidArgument, match="one platform"):
        write(node, tmp_path / "docker", "docker", "localhost/several", everything=True)


def blobs(top: Path) -> list[Path]:
    return [path for path in (top / "blobs/sha256").iterdir() if path.is_file()]


@pytest.mark.parametrize("kind", ["directory", "oci", "docker"])
def test_missing_blobs_are_named(node: Node, tmp_path: Path, census: None, kind: str) -> None:
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    manifest = json.loads(
        node.content.reader(Digest.parse(index["manifests"][0]["digest"])).readall()
    )
    lost = manifest["layers"][0]["digest"]
    node.content.delete(Digest.parse(lost))
    with pytest.raises(NotFound, match=lost):
        write(node, tmp_path / "out", kind)
    assert leftovers(tmp_path) == []


def leftovers(tmp_path: Path) -> list[str]:
    return [name for name in os.listdir(tmp_path) if name.lstrip(".").startswith("out")]


def test_all_platforms_must_be_here(node: Node, tmp_path: Path) -> None:
    two_platforms(node, tmp_path)
    with pytest.raises(NotFound, match="missing"):
        write(node, tmp_path / "out.tar", "oci", "localhost/several", everything=True)


@pytest.mark.parametrize("kind", ["directory", "oci", "docker"])
def test_a_damaged_blob_leaves_nothing(node: Node, tmp_path: Path, census: None, kind: str) -> None:
    blobs = tmp_path / "root/content/blobs/sha256"
    blob = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises((DigestMismatch, SnapcoreError), match=blob.name):
        write(node, tmp_path / "out", kind)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["directory", "oci"])
def test_a_cancel_leaves_nothing(node: Node, tmp_path: Path, census: None, kind: str) -> None:
    async def run() -> bool:
        with trio.CancelScope() as scope:

            def stop(event: Event) -> None:
                if isinstance(event, SendStarted):
                    trio.from_thread.run_sync(scope.cancel)

            await node.export([NAME], str(tmp_path / "out"), kind=kind, events=stop)
        return scope.cancelled_caught

    assert trio.run(run)
    assert leftovers(tmp_path) == []


def test_a_pipe_that_nobody_reads_can_be_cancelled(node: Node, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "large")
    layer = builder.add_layer(tar_of(File("large", os.urandom(1 << 20))), "none")
    builder.add_image("latest", [layer])
    load(node, builder.directory, "localhost/large")
    reading, writing = os.pipe()

    async def run() -> bool:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.export, ["localhost/large"], writing)
                while select.select([], [writing], [], 0)[1]:
                    await trio.sleep(0.001)
                scope.cancel()
        return scope.cancelled_caught

    assert trio.run(run)
    os.close(reading)
    os.close(writing)


def test_nothing_is_overwritten_unasked(node: Node, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(node, tmp_path / "empty", "directory")
    with pytest.raises(AlreadyExists, match="empty"):
        write(node, tmp_path / "empty", "directory")
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(AlreadyExists, match="--force"):
        write(node, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == b"mine"
    trio.run(lambda: node.export([NAME], str(tmp_path / "a.tar"), force=True))
    assert load(node, tmp_path / "a.tar").keys() == {NAME}


def test_what_cannot_be_exported(node: Node, tmp_path: Path) -> None:
    two_platforms(node, tmp_path)
    cases: list[tuple[type[SnapcoreError], Path, str, str, bool]] = [
        (NotFound, tmp_path / "out", "oci", "localhost/none", False),
        (NotFound, tmp_path / "no/out", "oci", NAME, False),
        (InvalidArgument, tmp_path / "out", "zip", NAME, False),
    ]
    for kind, target, form, name, everything in cases:
        with pytest.raises(kind):
            write(node, target, form, name, everything=everything)
    with pytest.raises(InvalidArgument, match="pipe"):
        write(node, 1, "directory")


def test_an_artifact_is_no_docker_archive(node: Node, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "artifact")
    config = builder.add_blob(b"{}", "application/vnd.example.config+json")
    builder.tag("latest", builder.add_manifest(config, []))
    load(node, builder.directory, "localhost/artifact")
    with pytest.raises(FailedPrecondition, match="localhost/artifact"):
        write(node, tmp_path / "out.tar", "docker", "localhost/artifact")
    assert leftovers(tmp_path) == []
    write(node, tmp_path / "out.tar", "oci", "localhost/artifact")


def test_each_blob_is_told_of(node: Node, tmp_path: Path) -> None:
    told = write(node, tmp_path / "out.tar")
    done = [event.descriptor.digest for event in told if isinstance(event, SendDone)]
    assert sorted(done) == [info.digest for info in node.content.walk()]
