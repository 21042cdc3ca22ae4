"""Removing things from a disk that is full to the last byte, or inode."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Outcome, call
from support.images import tiny_layout

from snapcore.linux import MountFlag, mount, umount

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]
NAME = "localhost/layout:latest"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk on which two snapshotters have an image."""
    tiny_layout(tmp_path / "layout")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("tmpfs", str(disk), "tmpfs", MountFlag(0), "size=96m,nr_inodes=4000")
    try:
        both = ("--snapshotter", "native", "--snapshotter", "overlay")
        done = snapcore(disk, *both, "images", "import", str(tmp_path / "layout"))
        assert (done.code, done.err) == (0, ""), done.err
        yield disk
    finally:
        umount(str(disk))


def snapcore(disk: Path, *arguments: str) -> Outcome:
    return call("--root", str(disk / "root"), "--progress", "none", *arguments)


def fill_bytes(disk: Path) -> None:
    status = os.statvfs(disk)
    with open(disk / "ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, status.f_bavail * status.f_frsize)
    assert os.statvfs(disk).f_bavail == 0


def fill_inodes(disk: Path) -> None:
    (disk / "ballast").mkdir()
    for number in range(os.statvfs(disk).f_favail):
        (disk / "ballast" / str(number)).touch()
    assert os.statvfs(disk).f_favail == 0


FILL = pytest.mark.parametrize("fill", [fill_bytes, fill_inodes])


@FILL
def test_an_image_can_be_removed_and_collected(place: Path, fill: object) -> None:
    assert callable(fill)
    fill(place)
    for verb in (("images", "rm", NAME), ("gc",)):
        done = snapcore(place, *verb)
        assert (done.code, done.err) == (0, ""), done.err
    for snapshotter in ("native", "overlay"):
        assert os.listdir(place / "root/snapshotters" / snapshotter / "snapshots") == []
    assert list((place / "root/content/blobs").rglob("*/*")) == []


@FILL
def test_only_what_frees_space_may_have_the_reserve(place: Path, fill: object) -> None:
    assert callable(fill)
    fill(place)
    held = sorted(os.listdir(place / "root/reserve"))
    assert snapcore(place, "images", "tag", NAME, "localhost/again:1").code == 7
    assert sorted(os.listdir(place / "root/reserve")) == held
    # And without it, nothing could be removed.
    shutil.rmtree(place / "root/reserve")
    fill_again(place)
    assert snapcore(place, "images", "rm", NAME).code == 7


def fill_again(disk: Path) -> None:
    """Take what the reserve has left, too."""
    if os.statvfs(disk).f_bavail:
        with open(disk / "more", "wb") as ballast:
            status = os.statvfs(disk)
            os.posix_fallocate(ballast.fileno(), 0, status.f_bavail * status.f_frsize)
    for number in range(os.statvfs(disk).f_favail):
        (disk / f"more-{number}").touch()


def test_the_reserve_is_made_again_once_there_is_room(place: Path) -> None:
    fill_bytes(place)
    assert snapcore(place, "images", "rm", NAME).code == 0
    assert not (place / "root/reserve").exists()
    (place / "ballast").unlink()
    assert snapcore(place, "images", "ls").code == 0
    assert (place / "root/reserve").exists()


def test_a_small_disk_is_not_made_smaller(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("tmpfs", str(disk), "tmpfs", MountFlag(0), "size=16m")
    try:
        assert snapcore(disk, "images", "ls").code == 0
        assert not (disk / "root/reserve").exists()
    finally:
        umount(str(disk))
