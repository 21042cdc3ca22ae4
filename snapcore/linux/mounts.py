"""mount(2), umount2(2) and the mount API by descriptors (fsopen(2), move_mount(2), …)."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from enum import IntFlag
from typing import Final

from snapcore.faults import reach
from snapcore.linux._libc import check, libc

_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_MOUNT_SETATTR: Final = 442
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_CLOEXEC: Final = 1
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MESSAGE: Final = 4096


class MountFlag(IntFlag):
    """`mountflags` of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    DIRSYNC = 128
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    REC = 16384
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24


class MountAttr(IntFlag):
    """`attr_flags` of fsmount(2) and `attr_set` of mount_setattr(2)."""

    NONE = 0
    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    NOATIME = 0x10
    STRICTATIME = 0x20
    NODIRATIME = 0x80
    IDMAP = 0x00100000


class _MountAttr(ctypes.Structure):
    # struct mount_attr (mount_setattr(2)).
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class UnmountFlag(IntFlag):
    """`flags` of umount2(2)."""

    NONE = 0
    FORCE = 1
    DETACH = 2
    NOFOLLOW = 8


def mount(source: str, target: str, fstype: str, flags: MountFlag, data: str = "") -> None:
    """Call mount(2). `data` must fit into one page, NUL included.

    Raises:
        OSError: the kernel refused; `filename` is the target.
    """
    reach("mount", target)
    check(
        libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            os.fsencode(fstype) or None,
            ctypes.c_ulong(flags),
            os.fsencode(data) or None,
        ),
        target,
    )


def umount(target: str, flags: UnmountFlag = UnmountFlag.NONE) -> None:
    """Call umount2(2).

    Raises:
        OSError: not a mount point, busy, or not permitted.
    """
    reach("umount", target)
    check(libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def fsopen(fstype: str) -> int:
    """Return a file descriptor of a new filesystem context.

    Raises:
        OSError: unknown filesystem type, or the kernel has no such call.
    """
    return check(libc.syscall(_FSOPEN, os.fsencode(fstype), ctypes.c_uint(_CLOEXEC)), fstype)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set one string parameter of a filesystem context.

    Raises:
        OSError: the filesystem knows no such parameter or refuses the value.
    """
    check(
        libc.syscall(
            _FSCONFIG,
            ctypes.c_int(context),
            ctypes.c_uint(_FSCONFIG_SET_STRING),
            os.fsencode(key),
            os.fsencode(value),
            ctypes.c_int(0),
        ),
        value,
    )


def fsconfig_flag(context: int, key: str) -> None:
    """Set one parameter without a value.

    Raises:
        OSError: the filesystem knows no such parameter.
    """
    check(
        libc.syscall(
            _FSCONFIG,
            ctypes.c_int(context),
            ctypes.c_uint(_FSCONFIG_SET_FLAG),
            os.fsencode(key),
            None,
            ctypes.c_int(0),
        ),
        key,
    )


def fsconfig_create(context: int) -> None:
    """Create the superblock of a filesystem context.

    Raises:
        OSError: the parameters together are refused.
    """
    check(
        libc.syscall(
            _FSCONFIG,
            ctypes.c_int(context),
            ctypes.c_uint(_FSCONFIG_CMD_CREATE),
            None,
            None,
            ctypes.c_int(0),
        )
    )


def fs_messages(context: int) -> tuple[str, ...]:
    """Return what the kernel has to say of a filesystem context, each message once.

    Source: kernel, Documentation/filesystems/mount_api.rst: a letter for the severity, a blank
    and the text. Filesystems from before that API say nothing.
    """
    messages: list[str] = []
    with suppress(OSError):  # ENODATA: no more
        while True:
            text = os.read(context, _MESSAGE).decode(errors="replace")
            messages.append(text.partition(" ")[2].strip())
    return tuple(messages)


def fsmount(context: int, attributes: MountAttr = MountAttr.NONE) -> int:
    """Return a descriptor of a mount that is attached nowhere.

    Closing the last descriptor below it unmounts it, so that a crash leaves no mount behind.

    Raises:
        OSError: the context has no superblock, or mounting is not permitted.
    """
    return check(
        libc.syscall(
            _FSMOUNT,
            ctypes.c_int(context),
            ctypes.c_uint(_CLOEXEC),
            ctypes.c_uint(attributes),
        )
    )


def open_tree(path: str, *, recursive: bool = False) -> int:
    """Return a descriptor of a bind mount of `path` that is attached nowhere.

    Raises:
        OSError: no such path, not permitted, or the kernel has no such call (Linux 5.2).
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return check(
        libc.syscall(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags)),
        path,
    )


def move_mount(mounted: int, target: str) -> None:
    """Attach what `fsmount` or `open_tree` returned at a path.

    Raises:
        OSError: no such path, or not permitted.
    """
    reach("mount", target)
    check(
        libc.syscall(
            _MOVE_MOUNT,
            ctypes.c_int(mounted),
            b"",
            ctypes.c_int(_AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        ),
        target,
    )


def mount_setattr(
    mounted: int, attributes: MountAttr, *, user_namespace: int = 0, recursive: bool = False
) -> None:
    """Set attributes of a mount given by descriptor.

    Args:
        mounted: from `open_tree` or `fsmount`.
        attributes: what is added.
        user_namespace: descriptor of the namespace whose maps IDMAP takes.
        recursive: the mounts below it too.

    Raises:
        OSError: EINVAL where the filesystem cannot be idmapped, EPERM, ENOSYS (Linux 5.12).
    """
    values = _MountAttr(attributes, 0, 0, user_namespace)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    check(
        libc.syscall(
            _MOUNT_SETATTR,
            ctypes.c_int(mounted),
            b"",
            ctypes.c_uint(flags),
            ctypes.byref(values),
            ctypes.c_size_t(ctypes.sizeof(values)),
        )
    )
