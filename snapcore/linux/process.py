"""What a process can give up: namespaces, capabilities, and outliving its parent."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Final

from snapcore.linux._libc import check, libc

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63


class Namespace(IntFlag):
    """`flags` of unshare(2). FS is no namespace: a working directory of the thread's own."""

    FS = 0x00000200
    MOUNT = 0x00020000
    IPC = 0x08000000
    USER = 0x10000000
    NET = 0x40000000


class Cap(IntEnum):
    """Capabilities that snapcore names (capabilities(7))."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    FSETID = 4
    MKNOD = 27
    SYS_ADMIN = 21
    SETFCAP = 31


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def unshare(namespaces: Namespace) -> None:
    """Move this thread into new namespaces.

    Raises:
        OSError: not permitted, or, for a user namespace, the process has several threads.
    """
    check(libc.unshare(ctypes.c_int(namespaces)))


def set_parent_death_signal(number: int) -> None:
    """Have a signal sent to this process when the *thread* that made it ends."""
    check(libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0))


def set_no_new_privileges() -> None:
    """Make sure that no later exec gains privileges (PR_SET_NO_NEW_PRIVS)."""
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0))


def set_not_dumpable() -> None:
    """Keep other processes of the same user from tracing or dumping this one."""
    check(libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0))


def effective_capabilities() -> frozenset[int]:
    """Return the numbers of this thread's effective capabilities."""
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    check(libc.capget(ctypes.byref(header), ctypes.byref(sets)))
    bits = sets[0].effective | sets[1].effective << 32
    return frozenset(n for n in range(_LAST_CAPABILITY + 1) if bits >> n & 1)


def keep_capabilities(keep: Iterable[Cap]) -> None:
    """Drop all capabilities but these, from the bounding set too. There is no way back.

    Raises:
        OSError: the process lacks one that it wants to keep.
    """
    wanted = 0
    for capability in keep:
        wanted |= 1 << capability
    held = effective_capabilities()
    for number in held:
        if not wanted >> number & 1:
            # Fails only for numbers that this kernel does not know.
            libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    sets = (_Sets * 2)(_Sets(low, low, 0), _Sets(high, high, 0))
    header = _Header(_CAPABILITY_VERSION_3, 0)
    check(libc.capset(ctypes.byref(header), ctypes.byref(sets)))
