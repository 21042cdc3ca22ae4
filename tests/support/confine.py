"""A program, run as systemd would run it: python confine.py CAPS CALLS FAMILIES OWN COMMAND…

What CapabilityBoundingSet, SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces,
RestrictRealtime, MemoryDenyWriteExecute, NoNewPrivileges and a mount namespace of its own do.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EPERM, _ENOSYS, _AFNOSUPPORT = 1, 38, 97
_MASKED_EQUAL, _EQUAL = 7, 4
_SPACES: Final = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000)
_UNSHARING: Final = ("unshare", "clone")
_NO_NEW_PRIVS_ATTRIBUTE: Final = 3
_REALTIME: Final = (1, 2, 6)
_CLONE_NEWNS: Final = 0x20000
_MS_REC_SLAVE: Final = 0x4000 | 0x80000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 24, 38, 65
_FAMILIES: Final = 46

_libc = ctypes.CDLL(None, use_errno=True)


class _Compare(ctypes.Structure):
    """`struct scmp_arg_cmp` (seccomp_rule_add(3))."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def main(arguments: Sequence[str]) -> None:
    capabilities, calls, families, own, *command = arguments
    if own == "1":
        _check(_libc.unshare(_CLONE_NEWNS))
        _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_SLAVE), None))
    _bound(capabilities.split(","))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0))
    _filter(calls.split(","), {int(getattr(socket, name)) for name in families.split(",")})
    os.execvp(command[0], command)


def _bound(capabilities: Sequence[str]) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    cap = ctypes.CDLL("libcap.so.2")
    kept = set()
    for name in capabilities:
        number = ctypes.c_int()
        assert cap.cap_from_name(name.encode(), ctypes.byref(number)) == 0, name
        kept.add(number.value)
    for other in set(range(last + 1)) - kept:
        _check(_libc.prctl(_PR_CAPBSET_DROP, other, 0, 0, 0))


def _filter(calls: Sequence[str], families: set[int]) -> None:
    """Load two filters, of which the stricter counts, as systemd does."""
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p

    def number(name: str) -> int:
        return int(lib.seccomp_syscall_resolve_name(name.encode()))

    refusals = ctypes.c_void_p(lib.seccomp_init(_ALLOW))
    rules = [
        *(("socket", _AFNOSUPPORT, 0, _EQUAL, n, 0) for n in set(range(_FAMILIES)) - families),
        *(("sched_setscheduler", _EPERM, 1, _EQUAL, n, 0) for n in _REALTIME),
        *((name, _EPERM, 0, _MASKED_EQUAL, n, n) for n in _SPACES for name in _UNSHARING),
    ]
    for name, error, *comparison in rules:
        compare = _Compare(*comparison)
        rule = (refusals, _ERRNO | error, number(name), 1, ctypes.byref(compare))
        _check(lib.seccomp_rule_add_array(*rule))
    # Its flags are in memory, so the C library is to try the older call (systemd: likewise).
    _check(lib.seccomp_rule_add_array(refusals, _ERRNO | _ENOSYS, number("clone3"), 0, None))
    allowed = ctypes.c_void_p(lib.seccomp_init(_ERRNO | _EPERM))
    for name in calls:
        # Some are of other machines, or newer than the library.
        if number(name) >= 0:
            _check(lib.seccomp_rule_add_array(allowed, _ALLOW, number(name), 0, None))
    for loaded in (refusals, allowed):
        _check(lib.seccomp_attr_set(loaded, _NO_NEW_PRIVS_ATTRIBUTE, 0))
        _check(lib.seccomp_load(loaded))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno() or -result, f"refused ({result})")


if __name__ == "__main__":
    main(sys.argv[1:])
