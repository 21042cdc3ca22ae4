"""Giving a copy the attributes of its original: owner, mode, xattrs, times.

Order matters: chown(2) clears setuid bits and drops `security.capability`, a write drops it
again, and everything moves ctime and mtime. So: data, owner, mode, xattrs, times.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

HOST_XATTRS: Final = ("security.selinux", "security.ima", "security.evm", "security.SMACK64")
"""Beginnings of xattrs that this host's policy gives to every file by itself; never copied."""


def copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Give the open file or directory `target` all attributes of `source`.

    Raises:
        OSError: the filesystem or a missing privilege refuses one of them.
    """
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    _copy_xattrs(source, target, status)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_attributes_at(source: int, target: int, name: bytes, status: os.stat_result) -> None:
    """Give `name` in directory `target` all attributes of `name` in directory `source`.

    For what cannot be opened without side effects: symlinks, devices, FIFOs, sockets.

    Raises:
        OSError: the filesystem or a missing privilege refuses one of them.
    """
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        # Of what is not a symlink, nothing is followed; chmod cannot be told so (chmod(2)).
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    # xattr calls know no directory descriptors; this magic link is one (proc_pid_fd(5)).
    _copy_xattrs(_by_descriptor(source, name), _by_descriptor(target, name), status)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_xattrs(source: int | bytes, target: int | bytes, status: os.stat_result) -> None:
    names = _list(source)
    if not stat.S_ISLNK(status.st_mode):
        # A default ACL above the state root would otherwise show in the copy (acl(5)).
        for name in _list(target):
            if name not in names and name.startswith("system.posix_acl_"):
                os.removexattr(target, name)
    for name in names:
        if not name.startswith(HOST_XATTRS):
            _set(target, name, _get(source, name))


def _list(path: int | bytes) -> list[str]:
    try:
        if isinstance(path, int):
            return os.listxattr(path)
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            return []
        raise


def _get(path: int | bytes, name: str) -> bytes:
    if isinstance(path, int):
        return os.getxattr(path, name)
    return os.getxattr(path, name, follow_symlinks=False)


def _set(path: int | bytes, name: str, value: bytes) -> None:
    if isinstance(path, int):
        os.setxattr(path, name, value)
    else:
        os.setxattr(path, name, value, follow_symlinks=False)


def _by_descriptor(directory: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (directory, name)
