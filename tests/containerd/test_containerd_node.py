"""A real containerd on our backends: images, containers, its collector, crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ctr import Daemons
from support.ctr_images import CHOSEN, REFERENCE, bring, run, tree_of_image, tree_of_snapshot

pytestmark = [pytest.mark.containerd, pytest.mark.needs_root, pytest.mark.timeout(300)]


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
    own = ("images", "import", str(layout), "--name", "test/image")
    assert tree_of_snapshot(node) == tree_of_image(node, tmp_path, own, REFERENCE)


def test_containers_survive_the_death_of_both(node: Daemons, layout: Path) -> None:
    bring(node, layout)
    node.ctr("run", "-d", *CHOSEN, REFERENCE, "keep", "/bin/sleep", "1000")
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
