"""Both ways to mount, against the kernel itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kernel import refused

from snapcore.linux import (
    MountAttr,
    MountFlag,
    UnmountFlag,
    filesystem_type,
    fs_messages,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    umount,
)
from snapcore.mount import is_mount_point

pytestmark = pytest.mark.needs_root


@pytest.fixture
def place(tmp_path: Path, census: None) -> str:
    target = tmp_path / "place"
    target.mkdir()
    return str(target)


@pytest.fixture
def context(census: None) -> Iterator[int]:
    descriptor = fsopen("tmpfs")
    yield descriptor
    os.close(descriptor)


def test_mount_with_flags_and_data(place: str) -> None:
    mount("source", place, "tmpfs", MountFlag.NOEXEC | MountFlag.NODEV, "size=4k,mode=700")
    try:
        assert filesystem_type(place) == "tmpfs"
        flags = os.statvfs(place).f_flag
        assert flags & os.ST_NOEXEC
        assert flags & os.ST_NODEV
        assert not flags & os.ST_RDONLY
        assert os.stat(place).st_mode & 0o7777 == 0o700
    finally:
        umount(place)


def test_a_bind_is_made_read_only_by_a_second_call(place: str, tmp_path: Path) -> None:
    mount(str(tmp_path), place, "", MountFlag.BIND)
    try:
        mount("", place, "", MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY)
        with pytest.raises(OSError, match="Read-only file system"):
            os.mkdir(os.path.join(place, "new"))
    finally:
        umount(place)


@pytest.mark.parametrize(
    ("target", "fstype", "data", "error"),
    [
        ("/not/there", "tmpfs", "", errno.ENOENT),
        ("/proc/self/status", "tmpfs", "", errno.ENOTDIR),
        ("", "no such filesystem", "", errno.ENODEV),
        ("", "tmpfs", "nonsense=1", errno.EINVAL),
    ],
)
def test_mount_refuses(place: str, target: str, fstype: str, data: str, error: int) -> None:
    with refused(error, path=target or place):
        mount("none", target or place, fstype, MountFlag(0), data)


def test_umount_refuses_what_is_used_or_not_mounted(place: str) -> None:
    with refused(errno.EINVAL, path=place):
        umount(place)
    mount("none", place, "tmpfs", MountFlag(0))
    with open(os.path.join(place, "file"), "w") as used:
        with refused(errno.EBUSY):
            umount(place)
        umount(place, UnmountFlag.DETACH)
        used.write("still there")
    assert not is_mount_point(place)


def test_umount_follows_no_symlink(place: str, tmp_path: Path) -> None:
    mount("none", place, "tmpfs", MountFlag(0))
    try:
        (tmp_path / "link").symlink_to(place)
        with refused(errno.EINVAL):
            umount(str(tmp_path / "link"), UnmountFlag.NOFOLLOW)
    finally:
        umount(place)


def test_a_filesystem_by_descriptor_is_seen_once_it_is_moved(context: int, place: str) -> None:
    fsconfig_string(context, "size", "8k")
    fsconfig_create(context)
    mounted = fsmount(context, MountAttr.NOSUID | MountAttr.RDONLY)
    try:
        assert not os.get_inheritable(mounted)
        assert not os.path.exists(f"/proc/self/fd/{mounted}/anything")
        assert filesystem_type(f"/proc/self/fd/{mounted}") == "tmpfs"
        assert not is_mount_point(place)
        move_mount(mounted, place)
    finally:
        os.close(mounted)
    flags = os.statvfs(place).f_flag
    umount(place)
    assert flags & os.ST_RDONLY
    assert flags & os.ST_NOSUID


def test_an_unknown_filesystem() -> None:
    with refused(errno.ENODEV, path="no such filesystem"):
        fsopen("no such filesystem")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda context: fsconfig_string(context, "nonsense", "1"), "nonsense"),
        (lambda context: fsconfig_flag(context, "nonsense"), "nonsense"),
        (lambda context: fsconfig_string(context, "size", "many"), "size"),
    ],
)
def test_the_kernel_says_what_it_refuses(
    context: int, call: Callable[[int], None], says: str
) -> None:
    assert fs_messages(context) == ()
    with refused(errno.EINVAL):
        call(context)
    messages = fs_messages(context)
    assert says in messages[0]
    assert not messages[0].startswith("e ")
    assert fs_messages(context) == ()


def test_steps_out_of_order_are_refused(context: int) -> None:
    with refused(errno.EINVAL):
        fsmount(context)
    fsconfig_create(context)
    with refused(errno.EBUSY):
        fsconfig_create(context)


def test_trees_are_cloned_with_or_without_what_is_mounted_below(tmp_path: Path, place: str) -> None:
    mount("none", place, "tmpfs", MountFlag(0))
    os.mkdir(os.path.join(place, "inside"))
    try:
        for recursive, seen in ((False, []), (True, ["inside"])):
            clone = open_tree(str(tmp_path), recursive=recursive)
            inner = os.open("place", os.O_RDONLY, dir_fd=clone)
            assert os.listdir(inner) == seen
            os.close(inner)
            os.close(clone)
    finally:
        umount(place)
    with pytest.raises(FileNotFoundError) as caught:
        open_tree("/not/there")
    assert caught.value.filename == "/not/there"


def test_move_mount_refuses(tmp_path: Path, census: None) -> None:
    clone = open_tree(str(tmp_path))
    try:
        for target, error in (("/not/there", errno.ENOENT), ("/proc/self/status", errno.EINVAL)):
            with refused(error, path=target):
                move_mount(clone, target)
    finally:
        os.close(clone)


def test_attributes_of_a_mount_by_descriptor(tmp_path: Path, census: None) -> None:
    clone = open_tree(str(tmp_path))
    try:
        mount_setattr(clone, MountAttr.RDONLY | MountAttr.NOEXEC)
        with refused(errno.EROFS):
            os.mkdir("new", dir_fd=clone)
        with open("/proc/self/ns/mnt") as other, refused(errno.EINVAL):
            mount_setattr(clone, MountAttr.IDMAP, user_namespace=other.fileno())
    finally:
        os.close(clone)
