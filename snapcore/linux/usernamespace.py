"""A user namespace that exists for its maps alone, as mount_setattr(2) wants one."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.linux._libc import check, libc
from snapcore.linux.process import Namespace

_CLONE_FILES: Final = 0x400
_WAIT_ALL: Final = 0x40000000
_STACK: Final = 64 * 1024
_LIFETIME: Final = 10
"""Seconds after which a child ends that outlived this process."""


@contextmanager
def user_namespace(uid_map: str, gid_map: str) -> Iterator[int]:
    """Make a user namespace with these maps for the duration of a `with` block.

    Safe in a process with any number of threads.

    Args:
        uid_map: lines of `inside outside count` (user_namespaces(7)).
        gid_map: as `uid_map`.

    Yields:
        Its descriptor.

    Raises:
        OSError: the maps are refused, or user namespaces are not permitted.
    """
    child = _sleeping_child()
    try:
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, _WAIT_ALL)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sleeping_child() -> int:
    """Start a process in a user namespace of its own that does nothing; return its id.

    Not os.fork: of a process with threads, its child must not run Python, whose locks another
    thread may hold. This child runs sleep(3) alone, on a stack of its own and with all signals
    blocked. It shares the table of descriptors, so that what is closed here is closed, and its
    end tells nobody, since who waits for any child would take it away.
    """
    stack = ctypes.create_string_buffer(_STACK)
    top = (ctypes.addressof(stack) + _STACK) & ~15
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return check(
            libc.clone(
                ctypes.cast(libc.sleep, ctypes.c_void_p),
                ctypes.c_void_p(top),
                ctypes.c_int(Namespace.USER | _CLONE_FILES),
                ctypes.c_void_p(_LIFETIME),
            )
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
