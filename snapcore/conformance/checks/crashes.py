"""A process that is killed in the middle of a call: the call happened, or it did not.

Where it dies is a numbered point of `snapcore.faults`: just before it makes, renames, deletes or
marks a file, commits to a database or mounts. Backends need not help.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.conformance.harness import (
    CheckFailed,
    Harness,
    LeftOut,
    checks,
    entries,
    expect,
    expect_equal,
    write,
)
from snapcore.conformance.history import Call
from snapcore.conformance.peer import Peer
from snapcore.faults import WIDTH
from snapcore.snapshots import Snapshotter

_CALLS: Final = (
    Call("prepare", "key", parent="base"),
    Call("commit", "key", "name"),
    Call("remove", "key"),
    Call("cleanup"),
)
_MOST: Final = 8
"""Points of one call at which a process is killed; there may be thousands."""
_TRIES: Final = 10


def check_killed_in_the_middle(harness: Harness) -> None:
    """Killed in the middle of prepare and of commit; cleanup takes what is left over."""
    before = _begin(harness)
    for call in _CALLS[:2]:
        _kill(harness, call, (_count(harness, call, before) + 1) // 2, before)


def check_killed_at_many_points(harness: Harness) -> None:
    """Killed at points all through prepare, commit, remove and cleanup."""
    before = _begin(harness)
    for call in _CALLS:
        for point in _spread(_count(harness, call, before)):
            _kill(harness, call, point, before)


def _begin(harness: Harness) -> int:
    """Make a base to stand on; return how many files there are then."""
    s = harness.snapshotter
    s.prepare("layer", "")
    directory = s.target("layer").directory
    for number in range(5 if directory else 0):
        write(directory, f"d{number}/file")
    s.commit("base", "layer")
    s.cleanup()
    return entries(s.root)


def _count(harness: Harness, call: Call, before: int) -> int:
    """Have another process make a call; return how many points it came to.

    Raises:
        LeftOut: there was none.
    """
    died, reached = _run(harness, call, 0)
    expect(not died, f"a process died of {call.hook}")
    _expect_whole(harness.snapshotter, call, before, "made")
    if not reached:
        raise LeftOut(f"{call.hook} changes no file in the process that calls it")
    return reached


def _kill(harness: Harness, call: Call, point: int, before: int) -> None:
    """Have another process make a call and die at a point.

    How many there are is not the same each time: what waits for the clock tries again and again.
    If the call is over before the point, it is the last one that there was.
    """
    for _ in range(_TRIES):
        died, reached = _run(harness, call, point)
        how = f"killed at point {point}" if died else "made"
        _expect_whole(harness.snapshotter, call, before, how)
        if died:
            return
        point = reached
    raise CheckFailed(f"{call.hook} came to fewer points each time, and could not be killed")


def _run(harness: Harness, call: Call, point: int) -> tuple[bool, int]:
    """Have another process make a call; return whether it was killed, and the points it came to.

    Raises:
        CheckFailed: the call failed; or the process ended in another way.
    """
    points = os.path.join(harness.work, "points")
    with _about_to(harness, call) as peer:
        peer.begin(call, points=points, die_at=point)
        event = peer.end()
        if event is None:
            expect(peer.killed(), f"{call.hook} ended the process that called it")
        else:
            expect_equal(event.outcome, "", f"the error that {call.hook} raised")
        # As it ends it comes to more, which are not the call's.
        reached = os.stat(points).st_size // WIDTH
    os.unlink(points)
    return event is None, reached


@contextmanager
def _about_to(harness: Harness, call: Call) -> Iterator[Peer]:
    """Start another process, and make what its call needs."""
    s = harness.snapshotter
    with Peer(s) as peer:
        peer.wait_until_open()
        if call.hook != "prepare":
            s.prepare("key", "base")
        if call.hook == "cleanup":
            s.remove("key")
        yield peer


def _spread(number: int) -> Iterable[int]:
    """Return some of the points from the first to the last."""
    return sorted({1 + index * (number - 1) // (_MOST - 1) for index in range(_MOST)})


def _expect_whole(s: Snapshotter, call: Call, before: int, how: str) -> None:
    """Check that a call happened or did not, undo it, and check that cleanup takes all else."""
    found = {info.name for info in s.walk()} - {"base"}
    may = ({"key"}, {"name"}) if call.hook == "commit" else ({"key"}, set())
    expect(found in may, f"after {call.hook} was {how} there is {sorted(found)}")
    for name in found:
        if name == "key":
            expect(bool(s.mounts(name)), f"{name!r} has no mounts")
        s.usage(name)
        s.remove(name)
    s.cleanup()
    what = f"entries after {call.hook} was {how}, and a cleanup"
    expect_equal(entries(s.root), before, what)
    expect_equal(s.cleanup().directories, 0, "directories that another one removes")


CHECKS = (
    *checks(check_killed_in_the_middle, mounts=False, peers=True),
    *checks(check_killed_at_many_points, mounts=False, peers=True, long=True),
)
