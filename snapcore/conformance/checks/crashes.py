"""A process that is killed in the middle of a call: it happened or it did not."""

from __future__ import annotations

from typing import Final

from snapcore.conformance.harness import Harness, checks, entries, expect, expect_equal, write
from snapcore.conformance.history import Call
from snapcore.conformance.peer import Peer
from snapcore.snapshots import Snapshotter

_CALLS: Final = (
    Call("prepare", "key", parent="base"),
    Call("commit", "key", "name"),
    Call("remove", "key"),
    Call("cleanup"),
)


def check_killed_in_the_middle(harness: Harness) -> None:
    """Killed in the middle of prepare and commit; cleanup takes what is left over."""
    _kill(harness, _CALLS[:2], (2,))


def check_killed_at_many_points(harness: Harness) -> None:
    """The same of every call, at more of its checkpoints, the first one too."""
    _kill(harness, _CALLS, (1, 2, 3, 5, 8))


def _kill(harness: Harness, calls: tuple[Call, ...], points: tuple[int, ...]) -> None:
    s = harness.snapshotter
    s.prepare("layer", "")
    directory = s.target("layer").directory
    for number in range(5 if directory else 0):
        write(directory, f"d{number}/file")
    s.commit("base", "layer")
    s.cleanup()
    before = entries(s.root)
    for call in calls:
        for point in points:
            with Peer(s) as peer:
                peer.wait_until_open()
                if call.hook != "prepare":
                    s.prepare("key", "base")
                if call.hook == "cleanup":
                    s.remove("key")
                peer.begin(call, die_at=point)
                peer.end()
            _expect_whole(s, call)
            s.cleanup()
            what = f"entries after {call.hook} was killed at checkpoint {point}, and a cleanup"
            expect_equal(entries(s.root), before, what)
            expect_equal(s.cleanup().directories, 0, "directories that another one removes")


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
