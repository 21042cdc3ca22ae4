"""What is closed holds nothing: no descriptors, threads, processes or mounts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from snapcore.conformance.harness import Harness, checks, expect_equal
from snapcore.errors import SnapcoreError
from snapcore.mount import mount_table
from snapcore.snapshots import Snapshotter

_PATIENCE: Final = 2.0
"""Seconds that a thread or process may take to end after close."""


def check_nothing_is_leaked(harness: Harness) -> None:
    """An instance that was opened, used, refused things and closed leaves nothing behind."""
    root = harness.snapshotter.root
    _use(harness.open())  # what is opened once, for all of the process
    before = _held(root)
    for _ in range(3):
        _use(harness.open())
    deadline = time.monotonic() + _PATIENCE
    while _held(root) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    expect_equal(sorted(_held(root) - before), [], "held after everything was closed")


def _use(s: Snapshotter) -> None:
    with s:
        s.prepare("key", "")
        s.commit("base", "key")
        s.prepare("key", "base")
        s.view("view", "base")
        refused: tuple[Callable[[], object], ...] = (
            lambda: s.prepare("key", "base"),
            lambda: s.prepare("new", "missing"),
            lambda: s.commit("base", "key"),
            lambda: s.remove("base"),
            lambda: s.stat("missing"),
        )
        for call in refused:
            with suppress(SnapcoreError):
                call()
        for key in ("key", "view", "base"):
            s.usage(key)
            s.remove(key)
        s.flush()
        s.cleanup()
        # A walk that nobody ends.
        next(s.walk(), None)


def _held(root: str) -> set[str]:
    """Return what this process holds: one by one, since others' threads may end meanwhile."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        processes = children.read().split()
    below = os.path.join(os.path.realpath(root), "")
    return {
        *(f"descriptor {number}" for number, _ in enumerate(os.listdir("/proc/self/fd"))),
        *(f"thread {thread.ident} {thread.name}" for thread in threading.enumerate()),
        *(f"process {number}" for number in processes),
        *(f"mount {m.id} {m.target}" for m in mount_table() if m.target.startswith(below)),
    }


CHECKS = checks(check_nothing_is_leaked, mounts=False)
