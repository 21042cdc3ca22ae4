"""The copying snapshotter: long copies, crashes, and what a copy is said to take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapcore.errors import NotFound, Unimplemented
from snapcore.snapshots import Capability, no_checkpoint
from snapcore_native import NativeSnapshotter, probe


@pytest.fixture
def native(tmp_path: Path, census: None) -> Iterator[NativeSnapshotter]:
    snapshotter = NativeSnapshotter(str(tmp_path / "root"))
    yield snapshotter
    snapshotter.close()


def _layer(native: NativeSnapshotter, name: str, parent: str, fill: Callable[[str], None]) -> None:
    native.prepare("layer", parent, {}, no_checkpoint)
    fill(native.target("layer").directory)
    native.commit(name, "layer", {}, "", no_checkpoint)


def _files(count: int) -> Callable[[str], None]:
    def fill(root: str) -> None:
        for number in range(count):
            with open(os.path.join(root, f"{number}"), "wb") as stream:
                stream.write(b"x" * 5000)

    return fill


def _directories(root: Path) -> list[str]:
    return sorted(os.listdir(root / "root" / "snapshots"))


def test_the_state_root_is_private(native: NativeSnapshotter, tmp_path: Path) -> None:
    assert os.stat(tmp_path / "root").st_mode & 0o777 == 0o700


def test_a_cancelled_copy_leaves_nothing(native: NativeSnapshotter, tmp_path: Path) -> None:
    _layer(native, "base", "", _files(20))
    before, calls = _directories(tmp_path), 0

    def cancel_in_the_middle() -> None:
        nonlocal calls
        calls += 1
        if calls == 15:
            assert _directories(tmp_path) != before, "the copy had not begun"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        native.prepare("key", "base", {}, cancel_in_the_middle)
    assert _directories(tmp_path) == before
    with pytest.raises(NotFound):
        native.stat("key")
    native.prepare("key", "base", {}, no_checkpoint)


def test_others_work_while_a_copy_is_under_way(native: NativeSnapshotter) -> None:
    _layer(native, "base", "", _files(3))
    copying, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        copying.set()
        assert go_on.wait(30)

    slow = threading.Thread(target=native.prepare, args=("slow", "base", {}, wait))
    slow.start()
    try:
        assert copying.wait(30)
        native.prepare("quick", "base", {}, no_checkpoint)
        native.commit("other", "quick", {}, "", no_checkpoint)
        assert [info.name for info in native.walk((), "", 10).infos] == ["base", "other"]
    finally:
        go_on.set()
        slow.join()
    assert native.stat("slow").parent == "base"


def test_cleanup_spares_a_copy_under_way(native: NativeSnapshotter) -> None:
    _layer(native, "base", "", _files(3))
    cleaned = 0

    def clean() -> None:
        nonlocal cleaned
        cleaned += native.cleanup(no_checkpoint).directories

    native.prepare("key", "base", {}, clean)
    assert cleaned == 0
    assert sorted(os.listdir(native.target("key").directory)) == ["0", "1", "2"]


def test_removed_directories_wait_for_cleanup(native: NativeSnapshotter, tmp_path: Path) -> None:
    _layer(native, "base", "", _files(3))
    native.remove("base", no_checkpoint)
    (left,) = _directories(tmp_path)
    assert left.startswith("rm-")
    reclaimed = native.cleanup(no_checkpoint)
    assert (reclaimed.directories, _directories(tmp_path)) == (1, [])
    assert reclaimed.size >= 15000


def test_sync_remove_deletes_at_once(tmp_path: Path, census: None) -> None:
    snapshotter = NativeSnapshotter(str(tmp_path / "root"), sync_remove=True)
    _layer(snapshotter, "base", "", _files(3))
    snapshotter.remove("base", no_checkpoint)
    assert _directories(tmp_path) == []
    snapshotter.close()


_CHILD = """
import os, signal, sys
from snapcore_native import NativeSnapshotter
calls = 0
def die():
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
NativeSnapshotter(sys.argv[1]).prepare("key", "base", {}, die)
"""


@pytest.mark.parametrize("call", [1, 5, 10])
def test_a_killed_copy_is_reclaimed(native: NativeSnapshotter, tmp_path: Path, call: int) -> None:
    _layer(native, "base", "", _files(10))
    before = _directories(tmp_path)
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "root"), str(call)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(_directories(tmp_path)) == len(before) + 1
    reclaimed = native.cleanup(no_checkpoint)
    assert (reclaimed.directories, reclaimed.reservations) == (1, 1)
    assert _directories(tmp_path) == before
    native.prepare("key", "base", {}, no_checkpoint)


def test_delta_is_what_changed_since_the_copy(native: NativeSnapshotter) -> None:
    _layer(native, "base", "", _files(10))
    native.prepare("key", "base", {}, no_checkpoint)
    root = native.target("key").directory
    unchanged = native.usage("key", no_checkpoint)
    assert (unchanged.delta, unchanged.inodes) == (0, 11)
    with open(os.path.join(root, "3"), "ab") as stream:
        stream.write(b"more")
    os.utime(os.path.join(root, "3"), ns=(0, 0))
    changed = native.usage("key", no_checkpoint)
    assert changed.delta == os.stat(os.path.join(root, "3")).st_blocks * 512
    os.chmod(os.path.join(root, "4"), 0o600)
    os.unlink(os.path.join(root, "5"))
    more = native.usage("key", no_checkpoint)
    expected = sum(os.stat(os.path.join(root, n)).st_blocks * 512 for n in ("3", "4", ""))
    assert more.delta == expected
    assert native.commit("top", "key", {}, "", no_checkpoint).parent == "base"
    assert native.usage("top", no_checkpoint) == more


def test_without_a_parent_everything_is_delta(native: NativeSnapshotter) -> None:
    _layer(native, "base", "", _files(3))
    usage = native.usage("base", no_checkpoint)
    assert usage.delta == usage.size > 15000


def test_a_view_copies_nothing(native: NativeSnapshotter, tmp_path: Path) -> None:
    _layer(native, "base", "", _files(3))
    (mount,) = native.view("view", "base", {}, no_checkpoint)
    assert mount.read_only
    assert mount.source == str(tmp_path / "root/snapshots/1/fs")
    assert native.usage("view", no_checkpoint).size == 0


def test_rebasing_is_refused_as_unimplemented(native: NativeSnapshotter) -> None:
    _layer(native, "base", "", _files(1))
    native.prepare("key", "", {}, no_checkpoint)
    with pytest.raises(Unimplemented, match="cannot be rebased onto 'base'"):
        native.commit("top", "key", {}, "base", no_checkpoint)
    assert native.stat("key").name == "key"


def test_probe_tries_and_leaves_nothing(tmp_path: Path, census: None) -> None:
    found = probe(str(tmp_path / "not" / "there"))
    assert found.usable
    assert {Capability.HARDLINKS, Capability.READONLY_VIEW} <= found.capabilities
    assert Capability.REBASE not in found.capabilities
    assert set(found.details) >= {"filesystem", "reflink", "user_xattrs", "devices"}
    assert os.listdir(tmp_path) == []


def test_probe_reports_hard_links_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    found = probe(str(tmp_path))
    assert found.usable
    assert Capability.HARDLINKS not in found.capabilities
    assert found.details["hardlinks"] == "no (EPERM)"


def test_probe_says_why_a_place_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    found = probe(str(tmp_path))
    assert not found.usable
    assert "no symlinks" in found.reason
