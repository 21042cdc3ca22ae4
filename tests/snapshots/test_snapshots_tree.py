from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition, NotFound
from snapcore.mount import Mount, mount_all, unmount
from snapcore.snapshots.hookspecs import no_checkpoint
from snapcore.snapshots.tree import disk_usage, remove_tree
from snapcore.snapshots.types import Usage


class Cancelled(BaseException):
    pass


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def deep(top: Path, levels: int) -> None:
    """Make a chain of directories much longer than PATH_MAX."""
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("a-directory", dir_fd=descriptor)
        below = os.open("a-directory", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def du(path: Path) -> Usage:
    run = ["du", "-s", "--block-size=512", str(path)]
    blocks = int(subprocess.run(run, check=True, capture_output=True).stdout.split()[0])
    run = ["du", "-s", "--inodes", str(path)]
    inodes = int(subprocess.run(run, check=True, capture_output=True).stdout.split()[0])
    return Usage(inodes, blocks * 512)


def test_usage_is_what_du_says(tmp_path: Path, census: None) -> None:
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "file").write_bytes(b"x" * 100_000)
    os.link(top / "a" / "file", top / "a" / "b" / "same")
    os.symlink("/usr", top / "link")
    os.mkfifo(top / "fifo")
    with open(top / "sparse", "wb") as sparse:
        sparse.truncate(1 << 30)
    usage = disk_usage(str(top), no_checkpoint)
    assert usage == du(top)
    assert usage.inodes == 7
    assert usage.size < 1 << 20


def test_usage_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        disk_usage(str(tmp_path / "nowhere"), no_checkpoint)


def test_deep_trees(tmp_path: Path, directory: int, census: None) -> None:
    deep(tmp_path / "top", 2000)
    usage = disk_usage(str(tmp_path / "top"), no_checkpoint)
    assert usage.inodes == 2001
    assert remove_tree(directory, "top", no_checkpoint) == usage.size
    assert not os.listdir(tmp_path)


def test_usage_survives_moves_and_removals(tmp_path: Path, census: None) -> None:
    top = tmp_path / "top"
    (top / "a" / "b" / "c" / "d").mkdir(parents=True)
    (top / "z").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    calls = 0

    def move() -> None:
        # The scan is inside "c" by then; ".." leads out of the tree from there.
        nonlocal calls
        calls += 1
        inside = [os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors()]
        if (top / "a" / "b").exists() and any(path.endswith("/b/c") for path in inside):
            os.rename(top / "a" / "b" / "c", outside / "c")
            shutil.rmtree(top / "a" / "b")

    usage = disk_usage(str(top), move)
    assert not (top / "a" / "b").exists()
    # top, a, b, c, d were seen before or while they moved; "z" must still be found.
    assert usage.inodes == 6


def test_removal_touches_nothing_that_came_meanwhile(
    tmp_path: Path, directory: int, census: None
) -> None:
    top = tmp_path / "top"
    (top / "a" / "b" / "c").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()

    def move() -> None:
        # The walk is inside "c" by then, and cannot get back to "b".
        inside = [os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors()]
        if any(path.endswith("/b/c") for path in inside):
            os.rename(top / "a" / "b" / "c", outside / "c")
            os.rmdir(top / "a" / "b")
            (top / "a" / "c").mkdir()

    with pytest.raises(OSError, match="not empty"):
        remove_tree(directory, "top", move)
    assert (top / "a" / "c").exists()
    assert (outside / "c").exists()


def test_a_directory_that_becomes_a_symlink_is_not_entered(
    tmp_path: Path, directory: int, census: None
) -> None:
    (tmp_path / "top" / "a").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()

    def swap() -> None:
        # The walk has listed "top" and is about to open "a".
        if not (tmp_path / "top" / "a").is_symlink():
            os.rmdir(tmp_path / "top" / "a")
            os.symlink(tmp_path / "kept", tmp_path / "top" / "a")

    with pytest.raises(OSError, match="not empty"):
        remove_tree(directory, "top", swap)
    assert (tmp_path / "kept" / "file").exists()
    remove_tree(directory, "top", no_checkpoint)
    assert (tmp_path / "kept" / "file").exists()
    assert os.listdir(tmp_path) == ["kept"]


def descriptors() -> list[str]:
    return [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]


def test_removal_stops_at_a_checkpoint_and_goes_on_later(
    tmp_path: Path, directory: int, census: None
) -> None:
    for number in range(5):
        (tmp_path / "top" / str(number)).mkdir(parents=True)
    left = 4

    def cancel() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Cancelled

    with pytest.raises(Cancelled):
        remove_tree(directory, "top", cancel)
    assert (tmp_path / "top").exists()
    remove_tree(directory, "top", no_checkpoint)
    assert not os.listdir(tmp_path)
    assert remove_tree(directory, "top", no_checkpoint) == 0


def test_removal_counts_only_the_last_link(tmp_path: Path, directory: int) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "kept").write_bytes(b"x" * 1_000_000)
    os.link(tmp_path / "kept", tmp_path / "top" / "link")
    assert remove_tree(directory, "top", no_checkpoint) < 1_000_000
    assert (tmp_path / "kept").stat().st_size == 1_000_000


def test_removal_does_not_follow_symlinks(tmp_path: Path, directory: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "top").mkdir()
    os.symlink(tmp_path / "kept", tmp_path / "top" / "link")
    remove_tree(directory, "top", no_checkpoint)
    assert (tmp_path / "kept" / "file").exists()


@pytest.mark.needs_root
def test_an_unprivileged_user_can_remove_closed_directories(tmp_path: Path) -> None:
    (tmp_path / "top" / "closed" / "inside").mkdir(parents=True)
    (tmp_path / "top" / "readonly").mkdir()
    (tmp_path / "top" / "readonly" / "file").touch()
    for directory, names, files in os.walk(tmp_path):
        for name in (*names, *files):
            os.chown(os.path.join(directory, name), 12345, 12345)
    os.chown(tmp_path, 12345, 12345)
    os.chmod(tmp_path / "top" / "readonly", 0o500)
    os.chmod(tmp_path / "top" / "closed", 0)
    os.chmod(tmp_path / "top", 0)
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    child = os.fork()
    if not child:
        os.setresgid(12345, 12345, 12345)
        os.setresuid(12345, 12345, 12345)
        try:
            remove_tree(descriptor, "top", no_checkpoint)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not os.listdir(tmp_path)


@pytest.mark.needs_root
@pytest.mark.parametrize("place", ["top", "top/inside"])
def test_what_is_mounted_inside_is_neither_counted_nor_deleted(
    tmp_path: Path, directory: int, place: str, census: None
) -> None:
    (tmp_path / "top" / "inside").mkdir(parents=True)
    mount_all([Mount("tmpfs", "tmpfs")], str(tmp_path / place))
    (tmp_path / place / "precious").write_bytes(b"x" * 1_000_000)
    try:
        if place != "top":
            assert disk_usage(str(tmp_path / "top"), no_checkpoint).inodes == 1
        with pytest.raises(FailedPrecondition, match="mounted"):
            remove_tree(directory, "top", no_checkpoint)
        assert (tmp_path / place / "precious").exists()
    finally:
        unmount(str(tmp_path / place))
    remove_tree(directory, "top", no_checkpoint)
    assert not os.listdir(tmp_path)
