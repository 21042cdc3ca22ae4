"""Which boot, mount and user namespace this is: what records name, and whose ids there are."""

from __future__ import annotations

import os
from typing import Final

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_MOUNT_NAMESPACE: Final = "/proc/self/ns/mnt"
_LAST_ID: Final = 2**32 - 2


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


def has_owner(uid: int, gid: int) -> bool:
    """Tell whether this user namespace has an id for an owner and a group (user_namespaces(7)).

    Raises:
        OSError: /proc is not there.
    """
    return _count_from("uid_map", uid) > 0 and _count_from("gid_map", gid) > 0


def has_owners_up_to(last: int = _LAST_ID) -> bool:
    """Tell whether this user namespace has all ids from 0 on; by default, all that there are.

    Raises:
        OSError: /proc is not there.
    """
    return all(_count_from(name, 0) > last for name in ("uid_map", "gid_map"))


def _count_from(name: str, first: int) -> int:
    """Return how many ids one range of a map holds from `first` on."""
    with open(f"/proc/self/{name}", encoding="ascii") as lines:
        for line in lines:
            inside, _, count = map(int, line.split())
            if inside <= first < inside + count:
                return inside + count - first
    return 0
