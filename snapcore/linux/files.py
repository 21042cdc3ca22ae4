"""File calls that `os` lacks: openat2(2), renameat2(2), FICLONE, syncfs(2), statfs(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
from enum import IntFlag
from typing import Final

from snapcore.linux._libc import check, libc

_OPENAT2: Final = 437
_FICLONE: Final = 0x40049409


class Resolve(IntFlag):
    """`resolve` of openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(directory: int, path: bytes, flags: int, resolve: Resolve, mode: int = 0) -> int:
    """Open `path` relative to a directory under resolution rules; close-on-exec.

    Raises:
        OSError: ELOOP or EXDEV where the rules forbid the way, ENOSYS before Linux 5.6.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return check(
        libc.syscall(
            _OPENAT2,
            ctypes.c_int(directory),
            path,
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        ),
        path,
    )


class RenameFlag(IntFlag):
    """`flags` of renameat2(2)."""

    NOREPLACE = 1
    EXCHANGE = 2


def renameat2(
    source_directory: int,
    source: bytes,
    target_directory: int,
    target: bytes,
    flags: RenameFlag,
) -> None:
    """Rename with flags, relative to directories (or AT_FDCWD = -100).

    Raises:
        OSError: EEXIST under NOREPLACE, EINVAL where the filesystem lacks the flag.
    """
    check(
        libc.renameat2(
            ctypes.c_int(source_directory),
            source,
            ctypes.c_int(target_directory),
            target,
            ctypes.c_uint(flags),
        ),
        target,
    )


def ficlone(target: int, source: int) -> None:
    """Make `target` share all blocks of `source` (ioctl FICLONE).

    Raises:
        OSError: EOPNOTSUPP, EXDEV or EINVAL where the filesystem cannot.
    """
    fcntl.ioctl(target, _FICLONE, source)


def syncfs(descriptor: int) -> None:
    """Write out the whole filesystem that holds `descriptor` and wait.

    Raises:
        OSError: writing failed, now or since the descriptor was opened.
    """
    check(libc.syncfs(ctypes.c_int(descriptor)))


class _Statfs(ctypes.Structure):
    # struct statfs of the 64-bit Linux ABIs; only the first fields are read.
    _fields_ = (
        ("f_type", ctypes.c_long),
        ("f_bsize", ctypes.c_long),
        ("f_rest", ctypes.c_byte * 256),
    )


_NAMES: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
    0x65735546: "fuse",
    0xE0F5E1E2: "erofs",
    0x6969: "nfs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0xF2F52010: "f2fs",
}


def filesystem_type(path: str) -> str:
    """Return the name of the filesystem that holds `path`, or its magic number in hex.

    Raises:
        OSError: no such path.
    """
    buffer = _Statfs()
    check(libc.statfs(os.fsencode(path), ctypes.byref(buffer)), path)
    magic = buffer.f_type & 0xFFFFFFFF
    return _NAMES.get(magic, hex(magic))


def kernel_filesystems() -> frozenset[str]:
    """Return the filesystems that the kernel has loaded (proc_filesystems(5)).

    Raises:
        OSError: /proc is not there.
    """
    with open("/proc/filesystems", encoding="ascii") as lines:
        return frozenset(line.split()[-1] for line in lines)
