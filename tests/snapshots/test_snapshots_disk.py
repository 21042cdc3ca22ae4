"""What authors of disk backends are given: the joined store, root directories, trial places."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import NotFound, SnapcoreError
from snapcore.linux import MountFlag, mount
from snapcore.mount import mounts_below
from snapcore.snapshots import (
    DiskStore,
    Kind,
    MetaStore,
    Reclaimed,
    SnapshotDirs,
    Usage,
    existing_ancestor,
    make_root,
    no_checkpoint,
    trial_directory,
)


@pytest.fixture
def disk(tmp_path: Path, census: None) -> Iterator[DiskStore]:
    opened = DiskStore(str(tmp_path / "root"))
    yield opened
    opened.close()


def _make(disk: DiskStore, key: str) -> int:
    with disk.creating(Kind.ACTIVE, key, "", {}) as draft:
        Path(draft.directory, "file").write_bytes(b"x" * 10_000)
    return draft.id


def test_a_snapshot_from_creation_to_cleanup(disk: DiskStore) -> None:
    number = _make(disk, "key")
    assert os.listdir(disk.path(number)) == ["file"]
    assert disk.path(number, "a", "b") == os.path.join(disk.path(number), "a/b")
    disk.records.commit(disk.records.check_commit("name", "key"), {}, Usage(1, 2))
    assert disk.flush().made_durable == 1
    assert disk.remove("name", no_checkpoint).usage == Usage(1, 2)
    with pytest.raises(NotFound):
        disk.remove("name", no_checkpoint)
    assert not os.path.exists(disk.path(number))
    reclaimed = disk.cleanup(no_checkpoint)
    assert reclaimed.directories == 1
    assert reclaimed.size >= 10_000
    assert disk.cleanup(no_checkpoint) == Reclaimed()


def test_files_go_at_once_if_they_shall(tmp_path: Path, census: None) -> None:
    disk = DiskStore(str(tmp_path), sync_remove=True)
    _make(disk, "key")
    disk.remove("key", no_checkpoint)
    assert os.listdir(tmp_path / "snapshots") == []
    assert disk.close()
    assert not disk.close()


def test_files_that_cannot_go_do_not_undo_a_removal(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = _make(disk, "key")

    def fail(self: SnapshotDirs, snapshot_id: int) -> bool:
        raise SnapcoreError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotDirs, "retire", fail)
        assert disk.remove("key", no_checkpoint).id == number
    with pytest.raises(NotFound):
        disk.records.stat("key")
    assert disk.cleanup(no_checkpoint).directories == 1


def test_a_store_that_cannot_be_opened_holds_nothing(tmp_path: Path, census: None) -> None:
    (tmp_path / "snapshots").write_bytes(b"")
    with pytest.raises(SnapcoreError, match="directory of snapshots"):
        DiskStore(str(tmp_path))
    # Its records were closed again: nobody's lock is in the way.
    MetaStore(str(tmp_path)).close()


def test_a_root_directory_has_the_contracts_mode(tmp_path: Path) -> None:
    default_acl = bytes.fromhex("02000000 01000700ffffffff 04000700ffffffff 20000700ffffffff")
    os.setxattr(tmp_path, "system.posix_acl_default", default_acl)
    path = tmp_path / "root"
    umask = os.umask(0o077)
    try:
        make_root(str(path))
    finally:
        os.umask(umask)
    assert os.stat(path).st_mode & 0o7777 == 0o755
    assert not [name for name in os.listxattr(path) if "acl" in name]


def test_a_trial_directory_is_near_the_root_and_goes(tmp_path: Path) -> None:
    root = str(tmp_path / "not" / "there")
    assert existing_ancestor(root) == str(tmp_path)
    with trial_directory(root) as place:
        assert os.path.dirname(place) == str(tmp_path)
        Path(place, "file").touch()
    assert os.listdir(tmp_path) == []


@pytest.mark.needs_root
def test_the_trial_of_a_killed_process_goes_with_the_next_one(tmp_path: Path, census: None) -> None:
    child = os.fork()
    if child == 0:
        with trial_directory(str(tmp_path)) as place:
            Path(place, "file").touch()
            os.mkdir(f"{place}/on")
            mount("tmpfs", f"{place}/on", "tmpfs", MountFlag(0))
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [entry.fstype for entry in mounts_below(str(tmp_path))] == ["tmpfs"]
    with trial_directory(str(tmp_path)) as place:
        assert os.listdir(tmp_path) == [os.path.basename(place)]
        assert mounts_below(str(tmp_path)) == ()
        with trial_directory(str(tmp_path)) as other:
            assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, (place, other)))


def test_a_trial_directory_that_is_taken_for_a_dead_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def taken(**options: str) -> str:
        made.append(mkdtemp(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with trial_directory(str(tmp_path)) as place:
        assert made[1:] == [place]
        assert os.listdir(place) == []
