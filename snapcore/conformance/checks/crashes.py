"""A process that is killed in the middle of a call: the call happened, or it did not.

Where it dies is a numbered point of `snapcore.faults`: just before it makes, renames, deletes or
marks a file, commits to a database or mounts. Backends need not help.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from snapcore.conformance.harness import Harness, checks, entries, expect, expect_equal, write
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


def check_killed_in_the_middle(harness: Harness) -> None:
    """Killed at the third point of prepare and of commit; cleanup takes what is left over."""
    before = _begin(harness)
    for call in _CALLS[:2]:
        _kill(harness, call, 3, before)


def check_killed_at_many_points(harness: Harness) -> None:
    """Killed at points all through prepare, commit, remove and cleanup."""
    before = _begin(harness)
    for call in _CALLS:
        for point in _spread(_kill(harness, call, 0, before)):
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


def _kill(harness: Harness, call: Call, point: int, before: int) -> int:
    """Have another process make a call and die at a point; return how many it came to."""
    s = harness.snapshotter
    points = os.path.join(harness.work, "points")
    with Peer(s) as peer:
        peer.wait_until_open()
        if call.hook != "prepare":
            s.prepare("key", "base")
        if call.hook == "cleanup":
            s.remove("key")
        peer.begin(call, points=points, die_at=point)
        peer.end()
    reached = os.stat(points).st_size // WIDTH
    os.unlink(points)
    _expect_whole(s, call)
    s.cleanup()
    what = f"entries after {call.hook} was killed at point {point}, and a cleanup"
    expect_equal(entries(s.root), before, what)
    expect_equal(s.cleanup().directories, 0, "directories that another one removes")
    return reached


def _spread(number: int) -> Iterable[int]:
    """Return some of the points from the first to the last."""
    return sorted({1 + index * (number - 1) // (_MOST - 1) for index in range(_MOST)} - {0})


def _expect_whole(s: Snapshotter, call: Call) -> None:
    """Check that a call happened or did not, and undo it."""
    found = {info.name for info in s.walk()} - {"base"}
    may = ({"key"}, {"name"}) if call.hook == "commit" else ({"key"}, set())
    expect(found in may, f"after {call.hook} was killed there is {sorted(found)}")
    for name in found:
        if name == "key":
            expect(bool(s.mounts(name)), f"{name!r} has no mounts")
        s.usage(name)
        s.remove(name)


CHECKS = (
    *checks(check_killed_in_the_middle, mounts=False, peers=True),
    *checks(check_killed_at_many_points, mounts=False, peers=True, long=True),
)
