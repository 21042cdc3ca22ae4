"""Which boot and which mount namespace this is: what a record must name to be judged later."""

from __future__ import annotations

import os
from typing import Final

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_MOUNT_NAMESPACE: Final = "/proc/self/ns/mnt"


def boot_id() -> str:
    """Return the id that the kernel drew at boot (random(4)).

    Raises:
        OSError: /proc is not there.
    """
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def mount_namespace() -> int:
    """Return the inode number of this process's mount namespace (namespaces(7)).

    Raises:
        OSError: /proc is not there.
    """
    return os.stat(_MOUNT_NAMESPACE).st_ino
