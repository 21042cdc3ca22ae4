"""mount(2), umount2(2) and the file-descriptor mount API (fsopen(2), fsconfig(2), fsmount(2))."""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from typing import Final

from snapcore.linux._libc import check, libc

_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_CLOEXEC: Final = 1


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
    """`attr_flags` of fsmount(2)."""

    NONE = 0
    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8


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
