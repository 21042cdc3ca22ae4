"""Carrying out mounts: all of a list or none, temporary ones, and unmounting."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from snapcore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
    Unimplemented,
)
from snapcore.linux import MountAttr, MountFlag, UnmountFlag
from snapcore.linux import mount as sys_mount
from snapcore.linux import umount as sys_umount
from snapcore.mount.compact import compact_lowers, mount_from
from snapcore.mount.idmap import IdMapping, bind_mapped, mapped_lowers, take_mapping
from snapcore.mount.overlay import MAX_LOWERS, join_lowers, mount_overlay, split_lowers
from snapcore.mount.value import Mount
from snapcore.mount.volatile import made_volatile, take_mark_away

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
_ATTRIBUTES = {
    MountFlag.RDONLY: MountAttr.RDONLY,
    MountFlag.NOSUID: MountAttr.NOSUID,
    MountFlag.NODEV: MountAttr.NODEV,
    MountFlag.NOEXEC: MountAttr.NOEXEC,
    MountFlag.NOATIME: MountAttr.NOATIME,
    MountFlag.NODIRATIME: MountAttr.NODIRATIME,
    MountFlag.STRICTATIME: MountAttr.STRICTATIME,
}
_UNMAPPABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC})
_ONE_BY_ONE = "lowerdir+"
_LACKING = frozenset({errno.ENOSYS, errno.EINVAL})
# Classic mount(2) copies one page of options and cuts the rest off without a word.
_MAX_DATA = os.sysconf("SC_PAGE_SIZE") - 1


def mount_all(mounts: Sequence[Mount], target: str, state: str | None = None) -> None:
    """Mount a list onto `target`, all of it or nothing.

    Args:
        mounts: the list.
        target: the mount point.
        state: a private directory of the caller's, where an overlay with mapped ids has another
            mount point for a moment; the system's temporary directory if None.

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
            _mount_one(item, place, state)
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
def temporary_mount(
    mounts: Sequence[Mount], directory: str | None = None, *, volatile: bool = False
) -> Iterator[str]:
    """Mount a list at a private directory for the duration of a `with` block.

    Args:
        mounts: the list.
        directory: parent of the mount points; the system's temporary directory if None.
        volatile: have overlays not write out what the block writes, where the kernel can; for
            callers that sync before they promise anything, or throw it away.

    Yields:
        The mount point.

    Raises:
        SnapcoreError: as `mount_all`.
    """
    target = tempfile.mkdtemp(prefix="snapcore-mount-", dir=directory)
    try:
        given = _mounted(mounts, target, directory, volatile=volatile)
        try:
            yield target
        finally:
            for _ in mounts:
                sys_umount(target, UnmountFlag.DETACH)
            take_mark_away(given)
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


def _mounted(
    mounts: Sequence[Mount], target: str, state: str | None, *, volatile: bool
) -> Sequence[Mount]:
    """Mount a list, volatile if that is wanted and the kernel can; return what was mounted."""
    wanted = made_volatile(mounts) if volatile else mounts
    if wanted != mounts:
        # Linux before 5.10 does not know it; if something else is wrong, the plain list says so.
        with suppress(FailedPrecondition):
            mount_all(wanted, target, state)
            return wanted
    mount_all(mounts, target, state)
    return mounts


def _place(item: Mount, target: str) -> str:
    if not item.target:
        return target
    place = os.path.normpath(os.path.join(target, item.target.lstrip("/")))
    if not place.startswith(os.path.normpath(target) + "/"):
        raise InvalidArgument(f"mount target {item.target!r} leaves {target!r}")
    return place


def _mount_one(item: Mount, place: str, state: str | None) -> None:
    item, mapping = take_mapping(item)
    flags, data = split_options(item.options)
    if item.type == "bind":
        flags |= MountFlag.BIND
    try:
        if flags & MountFlag.BIND and mapping:
            recursive = bool(flags & MountFlag.REC)
            bind_mapped(item.source, place, _attributes(flags), mapping, recursive=recursive)
        elif flags & MountFlag.BIND:
            _bind(item.source, place, flags)
        elif item.type == "overlay" and item.option("lowerdir"):
            _overlay(item, place, mapping, state)
        elif mapping:
            raise Unimplemented(f"a mount of {item.type} at {place!r} cannot have its ids mapped")
        else:
            _classic(item, place, flags, data)
    except OSError as error:
        raise _mount_error(error, item, place, mapped=mapping is not None) from error


def _bind(source: str, place: str, flags: MountFlag) -> None:
    sys_mount(source, place, "", flags, "")
    beyond = flags & ~_NOT_FOR_BIND_ALONE
    if beyond:
        # The kernel ignores all other flags when it makes a bind mount (mount(2), NOTES).
        try:
            sys_mount("", place, "", MountFlag.REMOUNT | MountFlag.BIND | beyond, "")
        except OSError:
            sys_umount(place, UnmountFlag.DETACH)
            raise


def _overlay(item: Mount, place: str, mapping: IdMapping | None, state: str | None) -> None:
    lowers = split_lowers(item.option("lowerdir") or "")
    if len(lowers) > MAX_LOWERS:
        raise FailedPrecondition(
            f"the overlay at {place!r} has {len(lowers)} lower directories; the kernel takes"
            f" {MAX_LOWERS}: flatten the image"
        )
    if mapping is None:
        _overlay_of(item, lowers, place)
        return
    with mapped_lowers(lowers, mapping, state) as shown:
        _overlay_of(item, shown, place)


def _overlay_of(item: Mount, lowers: Sequence[str], place: str) -> None:
    rest = [option for option in item.options if not option.startswith("lowerdir=")]
    own = [option for option in rest if option not in _FLAGS and option not in _NO_FLAG]
    flags, _ = split_options(rest)
    data = ",".join([*own, f"lowerdir={join_lowers(lowers)}"])
    plain = not flags & (MountFlag.SYNCHRONOUS | MountFlag.DIRSYNC)
    if not plain or "::" in (item.option("lowerdir") or ""):
        _classic(item, place, flags, data)
        return
    try:
        mount_overlay(lowers, own, _attributes(flags), place)
    except OSError as refusal:
        # Kernels that lack these calls, or `lowerdir+`, take the classic call; but not what is
        # too long for it.
        if len(os.fsencode(data)) > _MAX_DATA and refusal.errno not in _LACKING:
            raise
        try:
            _classic(item, place, flags, data)
        except OSError as error:
            # Both say the same of a mount that cannot be, and only the first says why.
            same = error.errno == refusal.errno and _ONE_BY_ONE not in str(refusal)
            raise (refusal if same else error) from None


def _classic(item: Mount, place: str, flags: MountFlag, data: str) -> None:
    if len(os.fsencode(data)) <= _MAX_DATA:
        sys_mount(item.source, place, item.type, flags, data)
    else:
        directory, short = _shortened(item, place, data)
        mount_from(directory, item.source, os.path.abspath(place), item.type, flags, short)


def _attributes(flags: MountFlag) -> MountAttr:
    attributes = MountAttr.NONE
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            attributes |= attribute
    return attributes


def _shortened(item: Mount, place: str, data: str) -> tuple[str, str]:
    compacted = compact_lowers(data) if item.type == "overlay" else None
    length = len(os.fsencode(compacted[1] if compacted else data))
    if compacted is None or length > _MAX_DATA:
        raise FailedPrecondition(
            f"options of the {item.type} mount at {place!r} take {length} bytes, however short"
            f" they are written; mount(2) takes {_MAX_DATA} (too many layers, or a state root"
            " with a long name; Linux 6.8 has another way, for names of at most 255 bytes)"
        )
    return compacted


def _mount_error(error: OSError, item: Mount, place: str, *, mapped: bool) -> SnapcoreError:
    text = f"cannot mount {item.type} from {item.source!r} at {place!r}: {error.strerror}"
    if mapped and error.errno in _UNMAPPABLE:
        text += " (its ids are mapped, which kernel, filesystem or user namespace may not allow)"
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
