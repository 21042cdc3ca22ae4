"""What is closed holds nothing: no descriptors, threads, processes or mounts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from snapcore.conformance.harness import Harness, checks, expect_equal, write
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
        _fill(s.target("key").directory)
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


def _fill(directory: str) -> None:
    """Put one of each kind of file into a target, if it is a directory."""
    if directory:
        path = write(directory, "a/b/file", b"1")
        os.link(path, f"{path} too")
        os.symlink("file", f"{path}'s link")
        os.mkfifo(f"{path}'s pipe")


def _held(root: str) -> set[str]:
    """Return what this process and all below it hold."""
    below = os.path.join(os.path.realpath(root), "")
    held = {f"thread {thread.ident} {thread.name}" for thread in threading.enumerate()}
    for process in _family(os.getpid()):
        # It may end while it is looked at.
        with suppress(OSError):
            held |= {f"process {process}", *_held_by(process, below)}
    return held


def _held_by(process: int, below: str) -> set[str]:
    """Return how many descriptors a process has, and what is mounted below the root for it."""
    table = mount_table(f"/proc/{process}/mountinfo")
    return {
        # One by one, since others' may be closed meanwhile.
        *(f"descriptor {n} of {process}" for n, _ in enumerate(os.listdir(f"/proc/{process}/fd"))),
        *(f"mount {m.id} {m.target}" for m in table if m.target.startswith(below)),
    }


def _family(process: int) -> Iterator[int]:
    """Yield a process, and those that any thread of it has started, and so on."""
    yield process
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            for child in _children(process, thread):
                yield from _family(child)


def _children(process: int, thread: str) -> list[int]:
    try:
        with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as stream:
            return [int(number) for number in stream.read().split()]
    except OSError:
        return []


CHECKS = checks(check_nothing_is_leaked, mounts=False)
