"""What a dead process leaves in its private directory, and how little of that is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapcore.config import NodeConfig
from snapcore.linux import MountFlag, mount
from snapcore.mount import mounts_below
from snapcore.node import Node

DEAD = "0" * 32


def _leave(root: Path) -> Path:
    """Leave what a process that was killed leaves; return its private directory."""
    place = root / "state" / DEAD / "snapcore-mount-x"
    place.mkdir(parents=True)
    (root / "owner").mkdir()
    (root / "owner" / DEAD).touch()
    return place


def test_the_next_one_tells_by_class_what_it_clears_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Node.open(NodeConfig.at(str(tmp_path))) as node:
        node.snapshotter("native").prepare(f"extract-{DEAD}-1 layer", "")
        (tmp_path / "content/ingest/begun").mkdir(parents=True)
    (tmp_path / "owner" / DEAD).touch()
    caplog.set_level("INFO")
    with Node.open(NodeConfig.at(str(tmp_path))) as node:
        node.snapshotter("native")
    told = [message for message in caplog.messages if message.startswith("cleared up ")]
    assert [message.rpartition(": ")[2] for message in told] == ["1"] * 4, told
    for what in ("after dead processes", "downloads", "unfinished snapshots of", "directories of"):
        assert any(what in message for message in told), told


def test_the_next_one_removes_it(tmp_path: Path) -> None:
    place = _leave(tmp_path)
    with Node.open(NodeConfig.at(str(tmp_path))):
        assert not place.parent.exists()
        assert not (tmp_path / "owner" / DEAD).exists()


def test_a_directory_without_a_dead_owner_here_stays(tmp_path: Path) -> None:
    place = _leave(tmp_path)
    (tmp_path / "owner" / DEAD).unlink()
    with Node.open(NodeConfig.at(str(tmp_path))):
        assert place.exists()


@pytest.mark.needs_root
def test_what_it_had_mounted_is_unmounted_and_unharmed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    place = _leave(root)
    mount(str(precious), str(place), "", MountFlag.BIND)
    with Node.open(NodeConfig.at(str(root))):
        assert mounts_below(str(root)) == ()
        assert not place.parent.exists()
    assert (precious / "file").read_text() == "kept"


def test_files_are_never_deleted(tmp_path: Path) -> None:
    place = _leave(tmp_path)
    (place / "file").write_text("whose?")
    with Node.open(NodeConfig.at(str(tmp_path))) as node:
        own = tmp_path / "state" / next((tmp_path / "owner").iterdir()).name
        (own / "file").write_text("whose?")
        node.close()
        assert (own / "file").exists()
    assert (place / "file").exists()


def test_nobody_else_may_look_into_what_it_makes(tmp_path: Path) -> None:
    root, state = tmp_path / "a/root", tmp_path / "b/state"
    with Node.open(NodeConfig(root=str(root), state=str(state))):
        made = (root, root / "lock", root / "owner", state, *state.iterdir())
        assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


@pytest.mark.parametrize("spoilt", ["content/ingest", "owner/directory/below"])
def test_what_cannot_be_cleared_up_is_told_and_is_no_obstacle(
    tmp_path: Path, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / spoilt
    path.parent.mkdir(parents=True)
    path.touch()
    with Node.open(NodeConfig.at(str(tmp_path))) as node:
        assert node.images.list() == ()
    (said,) = caplog.messages
    assert said.startswith("cannot clear up ")
    assert str(tmp_path) in said
