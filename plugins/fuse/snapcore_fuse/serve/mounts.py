"""The mount that is served: its options, its read-ahead, and what a dead process left."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from typing import Final

from snapcore.errors import FailedPrecondition, from_os_error
from snapcore.linux import UnmountFlag, umount
from snapcore.mount import mounts_below

_log: Final = logging.getLogger(__name__)
# ECONNABORTED: the connection was aborted through fusectl (kernel, filesystems/fuse.rst).
_DEAD: Final = (errno.ENOTCONN, errno.ECONNABORTED)
_STACKED: Final = 100


@dataclass(frozen=True, slots=True)
class MountSettings:
    """How the filesystem is mounted.

    Attributes:
        shared: let other users in, which overlayfs on top needs to serve them.
        privileged: let setuid bits, file capabilities and device nodes of layers count, as they
            do in unpacked ones. Mounts below the state root are out of anybody's reach.
        read_ahead: how far the kernel reads ahead, in bytes; each step of it is one request.
    """

    shared: bool = True
    privileged: bool = True
    read_ahead: int = 1 << 20

    @property
    def options(self) -> frozenset[str]:
        """The mount options (mount.fuse3(8))."""
        options = {"ro", "default_permissions", "fsname=snapcore"}
        if self.shared:
            options.add("allow_other")
        if self.privileged:
            options |= {"suid", "dev"}
        return frozenset(options)


def sweep(mountpoint: str) -> bool:
    """Unmount what a process that is gone has left mounted.

    Returns:
        Whether there was something.

    Raises:
        FailedPrecondition: a process is there that serves it, or something else is mounted.
        SnapcoreError: it cannot be unmounted.
    """
    if not _is_dead(mountpoint):
        return False
    try:
        for _ in range(_STACKED):
            umount(mountpoint, UnmountFlag.DETACH | UnmountFlag.NOFOLLOW)
            if not _is_dead(mountpoint):
                return True
    except OSError as error:
        raise from_os_error(error, f"unmounting {mountpoint!r}") from error
    raise FailedPrecondition(f"{mountpoint!r} stays mounted; unmount it by hand")


def _is_dead(mountpoint: str) -> bool:
    top = os.path.realpath(mountpoint)
    mounted = any(entry.target == top for entry in mounts_below(top))
    try:
        # What stat(2) says the kernel may know by heart; this it asks for each time.
        os.statvfs(mountpoint)
    except OSError as error:
        if error.errno in _DEAD:
            return True
        raise from_os_error(error, f"mount point {mountpoint!r}") from error
    if mounted:
        raise FailedPrecondition(f"something that works is mounted at {mountpoint!r} already")
    return False


def set_read_ahead(mountpoint: str, size: int) -> bool:
    """Set how far the kernel reads ahead of programs, which asks the mount for its attributes.

    Returns:
        Whether that is set now; a user namespace may not, and goes on with 128 KiB.

    Raises:
        OSError: the mount does not answer.
    """
    device = os.stat(mountpoint).st_dev
    knob = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    try:
        with open(knob, "w", encoding="ascii") as file:
            file.write(str(size >> 10))
    except OSError as error:
        _log.info("read-ahead of %r stays as it is: %s", mountpoint, error)
        return False
    return True
