"""Dying at a numbered point, so that a test can see what a crash leaves and what becomes of it.

A *point* is a moment just before a process changes something that outlives it. Python tells of
most by itself, as audit events (PEP 578): whatever makes, renames, deletes or marks a file. `reach`
adds what it cannot see: mounts, commits of databases, bytes of a blob. So file work needs no calls
to be swept, a plugin's neither, and nothing is counted until a process is armed:

    SNAPCORE_KILL_AT=0:/tmp/points snapcore pull …     # writes every point down, one a line
    SNAPCORE_KILL_AT=17:/tmp/points snapcore pull …    # SIGKILL at the 17th

Points are counted over all processes that name the same file; whoever reaches the one that is
asked for dies, be it the command or one of its workers.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "SNAPCORE_KILL_AT"
"""Environment variable: `NUMBER:FILE`; number 0 only counts."""
WIDTH: Final = 200
"""Bytes of a line in the file, so that its length tells the number."""
_OURS: Final = "snapcore."
_CREATING: Final = os.O_CREAT | os.O_TRUNC
# Source: the audit events table of the Python library reference. Of os.mknod(3) there is none.
_EVENTS: Final = frozenset(
    f"os.{name}"
    for name in (
        "chmod", "chown", "link", "mkdir", "remove", "removexattr", "rename", "rmdir",
        "setxattr", "symlink", "truncate", "utime",
    )
)  # fmt: skip


def reach(point: str, what: str = "") -> None:
    """Be at a point that no audit event tells of: call it just before the change.

    Args:
        point: a short name, such as `mount`.
        what: of which thing; only for show.
    """
    sys.audit(_OURS + point, what)


def arm(number: int, path: str) -> None:
    """Count the points of this process from now on, and die at one; cannot be undone.

    Args:
        number: which, counted from 1; 0 for none.
        path: the file of points, made if it is missing; its length is the count so far.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if _is_point(event, arguments) and _write_down(path, event, arguments) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def arm_as_told(environment: Mapping[str, str]) -> None:
    """Arm this process if its environment says so; called by programs as they start."""
    number, _, path = environment.get(VARIABLE, "").partition(":")
    if path:
        arm(int(number), path)


def _is_point(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & _CREATING)
    return event in _EVENTS or event.startswith(_OURS)


def _write_down(path: str, event: str, arguments: tuple[object, ...]) -> int:
    """Add a line, and return its number."""
    line = f"{os.getpid()} {event} {arguments[:2]!r}".encode(errors="replace")
    # Opened anew each time: only then is its offset the end of this line, whoever else writes.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, line[: WIDTH - 1].ljust(WIDTH - 1) + b"\n")
        return os.lseek(descriptor, 0, os.SEEK_CUR) // WIDTH
    finally:
        os.close(descriptor)
