"""Carrying out mounts: all of a list or none, temporary ones, and unmounting."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from snapcore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
    Unimplemented,
)
from snapcore.linux import MountFlag, UnmountFlag
from snapcore.linux import mount as sys_mount
from snapcore.linux import umount as sys_umount
from snapcore.mount.compact import compact_lowers, mount_from
from snapcore.mount.value import Mount

_FLAGS = {
    "ro": MountFlag.RDONLY,
    "nosuid": MountFlag.NOSUID,
    "nodev": MountFlag.NODEV,
    "noexec": MountFlag.NOEXEC,
    "sync": MountFlag.SYNCHRONOUS,
    "dirsync": MountFlag.DIRSYNC,
    "noatime": MountFlag.NOATIME,
    "nodiratime": MountFlag.NODIRATIME,
    "relatime": MountFlag.RELATIME,
    "strictatime": MountFlag.STRICTATIME,
    "bind": MountFlag.BIND,
    "rbind": MountFlag.BIND | MountFlag.REC,
}
_NO_FLAG = frozenset({"rw", "suid", "dev", "exec", "async", "defaults"})
_NOT_FOR_BIND_ALONE = MountFlag.BIND | MountFlag.REC
# Classic mount(2) copies one page of options and cuts the rest off without a word.
_MAX_DATA = os.sysconf("SC_PAGE_SIZE") - 1


def mount_all(mounts: Sequence[Mount], target: str) -> None:
    """Mount a list onto `target`, all of it or nothing.

    Raises:
        InvalidArgument: the list is empty, or a mount's target leaves `target`.
        NotFound: `target`, or something the mount needs, does not exist.
        PermissionDenied: this process may not mount.
        Unimplemented: the kernel lacks the filesystem.
        FailedPrecondition: the kernel refused the mount as it is.
    """
    if not mounts:
        raise InvalidArgument(f"nothing to mount at {target!r}: the list of mounts is empty")
    done: list[str] = []
    try:
        for item in mounts:
            place = _place(item, target)
            _mount_one(item, place)
            done.append(place)
    except SnapcoreError:
        for place in reversed(done):
            sys_umount(place, UnmountFlag.DETACH)
        raise


def unmount(target: str, *, detach: bool = False) -> None:
    """Unmount everything stacked at `target`.

    Args:
        target: the mount point.
        detach: hide the mount at once, and end it when it is no longer used.

    Raises:
        NotFound: nothing is mounted there.
        FailedPrecondition: the mount is in use.
        PermissionDenied: this process may not unmount.
    """
    flags = UnmountFlag.NOFOLLOW | (UnmountFlag.DETACH if detach else UnmountFlag.NONE)
    removed = 0
    while True:
        try:
            sys_umount(target, flags)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT) and removed:
                return
            raise _unmount_error(error, target) from error
        removed += 1


@contextmanager
def temporary_mount(mounts: Sequence[Mount], directory: str | None = None) -> Iterator[str]:
    """Mount a list at a private directory for the duration of a `with` block.

    Args:
        mounts: the list.
        directory: parent of the mount point; the system's temporary directory if None.

    Yields:
        The mount point.

    Raises:
        SnapcoreError: as `mount_all`.
    """
    target = tempfile.mkdtemp(prefix="snapcore-mount-", dir=directory)
    try:
        mount_all(mounts, target)
        try:
            yield target
        finally:
            for _ in mounts:
                sys_umount(target, UnmountFlag.DETACH)
    finally:
        os.rmdir(target)


def split_options(options: Sequence[str]) -> tuple[MountFlag, str]:
    """Split fstab-like options into mount flags and the filesystem's own data string."""
    flags, data = MountFlag(0), []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _NO_FLAG:
            data.append(option)
    return flags, ",".join(data)


def _place(item: Mount, target: str) -> str:
    if not item.target:
        return target
    place = os.path.normpath(os.path.join(target, item.target.lstrip("/")))
    if not place.startswith(os.path.normpath(target) + "/"):
        raise InvalidArgument(f"mount target {item.target!r} leaves {target!r}")
    return place


def _mount_one(item: Mount, place: str) -> None:
    flags, data = split_options(item.options)
    if item.type == "bind":
        flags |= MountFlag.BIND
    fstype = "" if flags & MountFlag.BIND else item.type
    try:
        if len(os.fsencode(data)) <= _MAX_DATA:
            sys_mount(item.source, place, fstype, flags, data)
        else:
            directory, short = _shortened(item, place, data)
            mount_from(directory, item.source, os.path.abspath(place), fstype, flags, short)
    except OSError as error:
        raise _mount_error(error, item, place) from error
    beyond = flags & ~_NOT_FOR_BIND_ALONE
    if flags & MountFlag.BIND and beyond:
        # The kernel ignores all other flags when it makes a bind mount (mount(2), NOTES).
        try:
            sys_mount("", place, "", MountFlag.REMOUNT | MountFlag.BIND | beyond, "")
        except OSError as error:
            sys_umount(place, UnmountFlag.DETACH)
            raise _mount_error(error, item, place) from error


def _shortened(item: Mount, place: str, data: str) -> tuple[str, str]:
    compacted = compact_lowers(data) if item.type == "overlay" else None
    if compacted is None or len(os.fsencode(compacted[1])) > _MAX_DATA:
        raise FailedPrecondition(
            f"options of the {item.type} mount at {place!r} take {len(data)} bytes;"
            f" mount(2) takes {_MAX_DATA} (too many layers, or a state root with a long name)"
        )
    return compacted


def _mount_error(error: OSError, item: Mount, place: str) -> SnapcoreError:
    text = f"cannot mount {item.type} from {item.source!r} at {place!r}: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{text} (mounting needs root or a user namespace)")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(text)
    if error.errno == errno.ENODEV:
        return Unimplemented(f"{text} (does this kernel have {item.type}?)")
    return FailedPrecondition(text)


def _unmount_error(error: OSError, target: str) -> SnapcoreError:
    text = f"cannot unmount {target!r}: {error.strerror}"
    if error.errno == errno.EPERM:
        return PermissionDenied(f"{text} (unmounting needs root)")
    if error.errno in (errno.EINVAL, errno.ENOENT):
        return NotFound(f"nothing is mounted at {target!r}")
    return FailedPrecondition(text)
