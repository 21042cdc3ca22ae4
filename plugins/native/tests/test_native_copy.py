"""Copying trees: what the conformance checks do not see of it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import DataLoss, PermissionDenied, ResourceExhausted
from snapcore_native import copy_tree, data
from snapcore_native.data import DataCopier


def nothing() -> None:
    """Be a checkpoint that lets everything go on."""


class Place:
    """Three directories for one copy."""

    def __init__(self, directory: Path) -> None:
        self.source, self.target, self.spare = (
            str(directory / name) for name in ("source", "target", "spare")
        )
        for path in (self.source, self.target, self.spare):
            os.mkdir(path)

    def write(self, name: str, content: bytes) -> str:
        path = os.path.join(self.source, name)
        with open(path, "wb") as stream:
            stream.write(content)
        return path

    def read(self, name: str) -> bytes:
        with open(os.path.join(self.target, name), "rb") as stream:
            return stream.read()


@pytest.fixture
def place(tmp_path: Path, census: None) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("failing", [(), ("ficlone",), ("ficlone", "copy_file_range")])
def test_every_way_of_copying_gives_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "refused")

    if "ficlone" in failing:
        monkeypatch.setattr(data, "ficlone", refuse)
    if "copy_file_range" in failing:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    content = os.urandom(3_000_001)
    place.write("file", content)
    with open(os.path.join(place.source, "sparse"), "wb") as stream:
        stream.seek(1 << 24)
        stream.write(b"middle")
        stream.truncate(1 << 25)
    copy_tree(place.source, place.target, place.spare, nothing)
    assert place.read("file") == content
    assert place.read("sparse") == bytes(1 << 24) + b"middle" + bytes((1 << 24) - 6)
    assert os.stat(os.path.join(place.target, "sparse")).st_blocks * 512 < 1 << 20


def test_an_unsupported_way_is_tried_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def refuse(*arguments: object) -> int:
        nonlocal calls
        calls += 1
        raise OSError(errno.EOPNOTSUPP, "refused")

    monkeypatch.setattr(data, "ficlone", refuse)
    for number in range(5):
        place.write(f"{number}", b"x")
    report = copy_tree(place.source, place.target, place.spare, nothing)
    assert calls == 1
    assert (report.entries, report.cloned, report.copied) == (5, 0, 5)


def test_a_copy_that_answers_nothing_is_finished_by_reading(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *arguments: 0)
    place.write("file", b"content")
    copy_tree(place.source, place.target, place.spare, nothing)
    assert place.read("file") == b"content"


def test_a_file_that_shrinks_is_data_loss(place: Place) -> None:
    path = place.write("file", b"long enough")
    status = os.stat(path)
    os.truncate(path, 3)
    with open(path, "rb") as source, open(os.path.join(place.target, "file"), "wb") as target:
        copier = DataCopier(nothing)
        with pytest.raises(DataLoss, match="shorter than its size of 11"):
            copier.copy(source.fileno(), target.fileno(), status, b"file")


def test_a_large_file_asks_the_checkpoint_on_its_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CHUNK", 1000)
    place.write("file", os.urandom(10_000))
    asked = 0

    def checkpoint() -> None:
        nonlocal asked
        asked += 1

    copy_tree(place.source, place.target, place.spare, checkpoint)
    assert asked >= 10


def test_what_a_checkpoint_raises_comes_out_and_nothing_stays_open(place: Place) -> None:
    place.write("file", b"x")

    def checkpoint() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_tree(place.source, place.target, place.spare, checkpoint)


def test_no_space_names_the_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    place.write("file", b"x")
    with pytest.raises(ResourceExhausted, match="b'file'"):
        copy_tree(place.source, place.target, place.spare, nothing)


def test_a_link_group_with_names_outside_leaves_nothing_spare(place: Place, tmp_path: Path) -> None:
    path = place.write("inside", b"x")
    os.link(path, os.path.join(place.source, "also inside"))
    os.link(path, tmp_path / "outside")
    copy_tree(place.source, place.target, place.spare, nothing)
    assert os.listdir(place.spare) == []
    assert os.stat(os.path.join(place.target, "inside")).st_nlink == 2


@pytest.mark.needs_root
def test_an_owner_that_may_not_be_given_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    os.chown(place.write("foreign", b"x"), 1234, 1234)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(PermissionDenied, match="b'foreign'"):
        copy_tree(place.source, place.target, place.spare, nothing)


@pytest.mark.needs_root
def test_a_default_acl_above_does_not_show_in_the_copy(place: Place) -> None:
    # One entry each for owner, a named user, group, mask and others (acl(5), posix_acl_xattr.h).
    def entry(tag: int, permissions: int, who: int = 0xFFFFFFFF) -> bytes:
        return b"".join(n.to_bytes(2, "little") for n in (tag, permissions)) + who.to_bytes(
            4, "little"
        )

    acl = (2).to_bytes(4, "little") + b"".join(
        (entry(1, 7), entry(2, 7, 1000), entry(4, 5), entry(16, 7), entry(32, 5))
    )
    os.setxattr(place.target, "system.posix_acl_default", acl)
    os.mkdir(os.path.join(place.source, "dir"))
    place.write("dir/file", b"x")
    copy_tree(place.source, place.target, place.spare, nothing)
    for name in ("", "dir", "dir/file"):
        path = os.path.join(place.target, name)
        assert os.listxattr(path) == [], name


@pytest.fixture
def btrfs(tmp_path: Path, census: None) -> Iterator[Path]:
    """A small btrfs on a loop device."""
    image, target = tmp_path / "image", tmp_path / "mnt"
    with open(image, "wb") as stream:
        stream.truncate(128 << 20)
    target.mkdir()
    try:
        subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    except FileNotFoundError:
        pytest.skip("mkfs.btrfs is not installed (btrfs-progs)")
    mounted = subprocess.run(
        ["mount", "-t", "btrfs", "-o", "loop", str(image), str(target)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount btrfs from a loop device: {mounted.stderr.strip()}")
    yield target
    subprocess.run(["umount", str(target)], check=True)


@pytest.mark.needs_root
def test_files_share_their_blocks_where_the_filesystem_can(btrfs: Path) -> None:
    place = Place(btrfs)
    content = os.urandom(8 << 20)
    place.write("large", content)
    os.sync()
    report = copy_tree(place.source, place.target, place.spare, nothing)
    assert (report.cloned, report.copied) == (1, 0)
    with open(os.path.join(place.target, "large"), "r+b") as stream:
        stream.write(b"changed")
    with open(os.path.join(place.source, "large"), "rb") as stream:
        assert stream.read() == content
