"""Cancellation: what a checkpoint raises comes out unchanged, and what was begun is undone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from snapcore.conformance.harness import (
    CheckFailed,
    Harness,
    checks,
    entries,
    expect,
    expect_equal,
    expect_error,
    write,
)
from snapcore.errors import NotFound
from snapcore.snapshots import Checkpoint, Snapshotter, no_checkpoint
from snapcore.snapshots.tree import disk_usage

_MANY: Final = 1000
"""Files that cannot be gone through in a moment."""
_LARGE: Final = 32 << 20
"""Bytes that take a while to copy."""
_LOOKS: Final = 3
"""Numbers of files to see when asked; to count them each time would take long."""


class _Cancelled(BaseException):
    """What a caller that has gone away raises."""


class _Cancel:
    """A checkpoint that raises when it is called for the n-th time, and ever after."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.raised = False

    def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.raised = True
            raise _Cancelled


def _cancelled(call: Callable[[Checkpoint], object], number: int, what: str) -> bool:
    """Make a call that is cancelled at its n-th checkpoint; tell whether it came to that.

    Raises:
        CheckFailed: the checkpoint raised, and the call did not.
    """
    cancel = _Cancel(number)
    try:
        call(cancel)
    except _Cancelled:
        return True
    if cancel.raised:
        raise CheckFailed(f"{what} swallowed what its checkpoint raised")
    return False


def check_cancelled_prepare(harness: Harness) -> None:
    """The key of a prepare or view that was cancelled stays free, and nothing is left of it."""
    s = harness.snapshotter
    _base(s)
    before = entries(s.root)
    for method in (s.prepare, s.view):
        for number in (1, 2, 5):
            what = method.__name__
            if _cancelled(lambda c: method("key", "base", checkpoint=c), number, what):  # noqa: B023
                with expect_error(NotFound, f"stat after a cancelled {what}"):
                    s.stat("key")
            else:
                s.remove("key")  # it had no occasion to ask
            s.cleanup()
            expect_equal(entries(s.root), before, f"entries below the root after {what}")
    s.prepare("key", "base", checkpoint=no_checkpoint)


def check_cancelled_calls(harness: Harness) -> None:
    """A commit that was cancelled did not happen; usage, remove and cleanup can be repeated."""
    s = harness.snapshotter
    _base(s)
    for number in (1, 2, 5):
        s.prepare("key", "base")
        _cancelled(lambda c: s.usage("key", checkpoint=c), number, "usage")
        before = s.stat("key")
        if _cancelled(lambda c: s.commit("name", "key", checkpoint=c), number, "commit"):
            expect_equal(s.stat("key"), before, "the snapshot after a cancelled commit")
            with expect_error(NotFound, "stat of a name after a cancelled commit"):
                s.stat("name")
            s.commit("name", "key")
        _cancelled(lambda c: s.remove("name", checkpoint=c), number, "remove")
        found = {info.name for info in s.walk()}
        expect(found <= {"base", "name"}, f"a cancelled remove left {sorted(found)}")
        if "name" in found:
            s.remove("name")
        _cancelled(lambda c: s.cleanup(checkpoint=c), number, "cleanup")
        s.cleanup()
        expect_equal(s.cleanup().directories, 0, "directories that a further cleanup removes")


def check_long_work_asks(harness: Harness) -> None:
    """Who goes through many files asks on the way whether the caller is still there."""
    s = harness.snapshotter
    seen: set[int] = set()

    def ask() -> None:
        if len(seen) < _LOOKS:
            seen.add(entries(s.root))

    with harness.mounted(s.prepare("layer", "")) as root:
        os.mkdir(os.path.join(root, "dir"))
        for number in range(_MANY):
            os.mkfifo(os.path.join(root, "dir", f"{number}"))
    usage = s.usage("layer", checkpoint=ask)
    expect(usage.inodes < _MANY or bool(seen), "usage of a thousand files never asked")
    s.commit("base", "layer")
    before = entries(s.root)
    seen.clear()
    s.prepare("key", "base", checkpoint=ask)
    made = entries(s.root) - before
    in_time = any(number - before < made / 2 for number in seen)
    expect(made < _MANY or in_time, f"prepare made {made} files without asking on the way")


def check_large_copies_ask(harness: Harness) -> None:
    """Who copies a large file asks on the way."""
    s = harness.snapshotter
    seen: set[int] = set()

    def ask() -> None:
        seen.add(disk_usage(s.root, no_checkpoint).size)

    harness.layer("base", "", lambda root: write(root, "file", os.urandom(_LARGE)))
    before = disk_usage(s.root, no_checkpoint).size
    s.prepare("key", "base", checkpoint=ask)
    copied = disk_usage(s.root, no_checkpoint).size - before
    in_time = any(copied / 8 < size - before < copied * 7 / 8 for size in seen)
    expect(copied < _LARGE or in_time, f"prepare copied {copied} bytes without asking on the way")


def _base(s: Snapshotter) -> None:
    s.prepare("layer", "")
    directory = s.target("layer").directory
    for number in range(5 if directory else 0):
        write(directory, f"file{number}")
    s.commit("base", "layer")


CHECKS = (
    *checks(check_cancelled_prepare, mounts=False, local=True),
    *checks(check_cancelled_calls, mounts=False),
    *checks(check_long_work_asks, check_large_copies_ask, local=True),
)
