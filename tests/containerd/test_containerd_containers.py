"""Many containers at once on our backends, and the verbs of ctr for their snapshots."""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from support.ctr import Daemons
from support.ctr_images import (
    CHOSEN,
    LAYERS,
    REFERENCE,
    bring,
    end,
    execute,
    run,
    snapshots,
    start,
    top_of,
)
from support.images import run_tool

from snapcore.linux import umount

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]

NAMES: Final = [f"many-{number}" for number in range(10)]


def test_ten_containers_outlive_collection_and_restarts(node: Daemons, layout: Path) -> None:
    bring(node, layout)
    with ThreadPoolExecutor(len(NAMES)) as threads:
        list(threads.map(lambda name: start(node, name), NAMES))
        script = "echo {0} > /own; cat /own /data/new"
        said = threads.map(lambda name: execute(node, name, script.format(name)), NAMES)
        assert list(said) == [f"{name}\nnew" for name in NAMES]
    before = snapshots(node)
    assert len(before) == LAYERS + len(NAMES)
    for name, again in (
        ("service", node.start_service),
        ("containerd", node.start_containerd),
    ):
        node.end(name)
        again()
        node.snapcore("gc")
    assert snapshots(node) == before
    assert node.ctr("tasks", "ls").count("RUNNING") == len(NAMES)
    # What each has written is still its own.
    assert [execute(node, name, "cat /own") for name in NAMES] == [f"{name}\n" for name in NAMES]
    for name in NAMES:
        end(node, name)
    node.ctr("images", "rm", "--sync", REFERENCE)
    assert snapshots(node) == []


@pytest.mark.parametrize("node", ["overlay", "native"], indirect=True)
def test_a_changed_container_is_committed(node: Daemons, layout: Path, tmp_path: Path) -> None:
    bring(node, layout)
    image = top_of(node)
    start(node, "changed")
    execute(node, "changed", "echo more > /data/more; rm /data/new")
    snapshot = ("snapshots", *CHOSEN)
    # Without its container nothing would keep it.
    node.ctr(*snapshot, "label", "changed", "containerd.io/gc.root=now")
    end(node, "changed", "--keep-snapshot")
    plain = "application/vnd.oci.image.layer.v1.tar"
    command = ("ctr", "--address", node.socket, "snapshots", *CHOSEN, "diff", "--media-type", plain)
    done = subprocess.run((*command, "changed"), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    layer = done.stdout
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        files = {each.name for each in tar if each.isfile() and each.name.startswith("data")}
    assert files == {"data/more", "data/.wh.new"}
    node.ctr(*snapshot, "commit", "mine", "changed")
    info = node.ctr(*snapshot, "info", "mine")
    assert f'"Parent": "{image}"' in info
    assert '"Kind": "Committed"' in info
    target = tmp_path / "target"
    target.mkdir()
    # Not a view, which nothing keeps: containerd might collect it at once.
    node.ctr(*snapshot, "prepare", "look", "mine")
    run_tool(*shlex.split(node.ctr(*snapshot, "mounts", str(target), "look")))
    try:
        assert {path.name for path in (target / "data").iterdir()} == {"more"}
    finally:
        umount(str(target))
    node.ctr(*snapshot, "rm", "look")
    node.ctr(*snapshot, "rm", "mine")
    node.ctr("images", "rm", "--sync", REFERENCE)
    assert snapshots(node) == []


@pytest.mark.parametrize("node", ["overlay", "native"], indirect=True)
def test_what_is_shown_of_snapshots(node: Daemons, layout: Path) -> None:
    bring(node, layout)
    snapshot = ("snapshots", *CHOSEN)
    image = top_of(node)
    node.ctr(*snapshot, "prepare", "work", image)
    rows = [line.split() for line in node.ctr(*snapshot, "ls").splitlines()[1:]]
    assert ["work", image, "Active"] in rows
    assert sum(row[-1] == "Committed" for row in rows) == LAYERS
    tree = node.ctr(*snapshot, "tree").splitlines()
    assert len(tree) == LAYERS + 1
    assert tree[-1].endswith("work")
    sizes = dict(line.split()[:2] for line in node.ctr(*snapshot, "usage", "-b").splitlines()[1:])
    assert len(sizes) == LAYERS + 1
    assert all(int(sizes[name]) > 0 for name, *_ in rows if name != "work")
    with_label = node.ctr(*snapshot, "label", "work", "mine=yes")
    assert "mine" in with_label + node.ctr(*snapshot, "info", "work")
    node.ctr(*snapshot, "rm", "work")
    assert run(node, "one", "/bin/hello") == "hello\n"
