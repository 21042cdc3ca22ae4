"""A real containerd on our backends: images, containers, its collector, crashes."""

from __future__ import annotations

import shlex
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.cli import spawn
from support.ctr import PLUGIN, Daemons, containerd_node
from support.images import require_tools, run_tool
from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout

from examples.demo.image import programs_layer
from snapcore.linux import umount

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]

REFERENCE: Final = "test/image:latest"
_CHOSEN: Final = ("--snapshotter", PLUGIN)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a layout directory: programs, changes of them, a script."""
    directory = tmp_path_factory.mktemp("image") / "layout"
    builder = LayoutBuilder(directory)
    # With all their directories, and not by way of the link `bin`: containerd gives times of its
    # own to directories that a layer only implies, and makes one where there is a link below.
    programs = programs_layer(("sh", "cat", "sleep", "find"))
    old = tar_of(File("data/"), File("data/old", b"old"), File("gone", b"x"))
    new = tar_of(File("data/"), opaque("data"), File("data/new", b"new"), whiteout("gone"))
    hello = File("usr/bin/hello", b"#!/bin/sh\necho hello\n", mode=0o755)
    layers = [
        builder.add_layer(programs, "gzip"),
        builder.add_layer(old),
        builder.add_layer(new),
        builder.add_layer(tar_of(File("usr/"), File("usr/bin/"), hello), "zstd"),
    ]
    builder.add_image("latest", layers)
    return directory


@pytest.fixture(params=["overlay", "native", "fuse"])
def node(request: pytest.FixtureRequest) -> Iterator[Daemons]:
    require_tools("containerd", "ctr", "runc")
    pytest.importorskip("grpc", reason="not installed: snapcore[service]")
    # A short path: sockets lie in it.
    with (
        tempfile.TemporaryDirectory(prefix="ctr-") as place,
        containerd_node(Path(place), request.param) as node,
    ):
        yield node


def bring(node: Daemons, layout: Path) -> None:
    archive = node.place / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
    node.ctr("images", "import", *_CHOSEN, "--base-name", "test/image", str(archive))


def run(node: Daemons, name: str, *command: str) -> str:
    return node.ctr("run", "--rm", *_CHOSEN, REFERENCE, name, *command)


def test_from_an_image_to_nothing_again(node: Daemons, layout: Path) -> None:
    bring(node, layout)
    assert run(node, "one", "/bin/hello") == "hello\n"
    script = "find /data -type f; find / -maxdepth 1 -name gone"
    assert run(node, "two", "/bin/sh", "-c", script) == "/data/new\n"
    # What the ended containers had goes when containerd next collects.
    names = node.snapcore("snapshots", "ls", "-q").split()
    assert sum("sha256:" in name for name in names) == 4
    assert node.snapcore("--format", "json", "gc").count('"kind"') == 0
    assert run(node, "three", "/bin/hello") == "hello\n"
    node.ctr("images", "rm", "--sync", REFERENCE)
    assert node.snapcore("snapshots", "ls", "-q") == ""
    left = node.root / "snapshotters" / node.backend / "snapshots"
    assert list(left.iterdir()) == []
    assert "error=" not in node.log("service")


def test_the_tree_is_the_one_that_snapcore_makes(
    node: Daemons, layout: Path, tmp_path: Path
) -> None:
    bring(node, layout)
    node.ctr("snapshots", *_CHOSEN, "prepare", "look", top_of(node))
    target = node.place / "mnt"
    target.mkdir()
    run_tool(*shlex.split(node.ctr("snapshots", *_CHOSEN, "mounts", str(target), "look")))
    try:
        theirs = tree(node, target)
    finally:
        umount(str(target))
    own = ("--root", str(tmp_path / "own"), "--snapshotter", node.backend)
    for verb in (
        ("images", "import", str(layout), "--name", "test/image"),
        ("images", "mount", REFERENCE, str(target)),
    ):
        done = spawn(*own, *verb)
        assert done.code == 0, done.err
    try:
        assert tree(node, target) == theirs
    finally:
        spawn(*own, "images", "unmount", str(target))


def tree(node: Daemons, directory: Path) -> list[str]:
    """Return what the digest of a tree is made of, but the root's time: containerd sets none."""
    lines = node.snapcore("digest", "--list", str(directory)).splitlines()
    (root,) = (line for line in lines if line.startswith(". directory "))
    return [line.rpartition(" ")[0] if line == root else line for line in lines]


def top_of(node: Daemons) -> str:
    """Return the snapshot that no other stands on."""
    rows = [line.split() for line in node.ctr("snapshots", *_CHOSEN, "ls").splitlines()[1:]]
    parents = {parent for _, parent, *kind in rows if kind}
    (top,) = {name for name, *_ in rows} - parents
    return top


def test_containers_survive_the_death_of_both(node: Daemons, layout: Path) -> None:
    bring(node, layout)
    node.ctr("run", "-d", *_CHOSEN, REFERENCE, "keep", "/bin/sleep", "1000")
    for name, start in (
        ("service", node.start_service),
        ("containerd", node.start_containerd),
    ):
        node.kill(name)
        start()
        assert run(node, f"after-{name}", "/bin/hello") == "hello\n"
        assert "RUNNING" in node.ctr("tasks", "ls")
    before = node.snapcore("snapshots", "ls", "-q")
    node.snapcore("gc")
    assert node.snapcore("snapshots", "ls", "-q") == before
    assert before.count("\n") == 5
    node.ctr("tasks", "rm", "--force", "keep")
    node.ctr("containers", "rm", "keep")
    node.ctr("images", "rm", "--sync", REFERENCE)
    assert node.snapcore("snapshots", "ls", "-q") == ""
