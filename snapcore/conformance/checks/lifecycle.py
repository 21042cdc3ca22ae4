"""What happens to keys and names: story 1 to 3 of the contract."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from snapcore.conformance.clock import WallClock
from snapcore.conformance.harness import (
    Harness,
    checks,
    expect,
    expect_equal,
    expect_error,
    read,
    write,
)
from snapcore.errors import FailedPrecondition
from snapcore.snapshots import Info, Kind


def check_stories(harness: Harness) -> None:
    """Two layers, a view, a container; everything is where it should be and goes top down."""
    s = harness.snapshotter
    with harness.mounted(s.prepare("one", "")) as root:
        write(root, "etc/first", b"1")
    s.commit("base", "one")
    with harness.mounted(s.prepare("two", "base")) as root:
        expect_equal(read(root, "etc/first"), b"1", "a parent's file in its child")
        write(root, "etc/second", b"2")
    s.commit("top", "two")
    infos = {info.name: info for info in s.walk()}
    expect_equal(sorted(infos), ["base", "top"], "names after two commits")
    for name, parent in (("base", ""), ("top", "base")):
        expect_equal(infos[name], s.stat(name), f"walk's and stat's answer for {name!r}")
        expect_equal(infos[name].parent, parent, f"parent of {name!r}")
    with harness.seen("top") as root:
        expect_equal((read(root, "etc/first"), read(root, "etc/second")), (b"1", b"2"), "a view")
    with harness.seen("base") as root, harness.mounted(s.prepare("c", "top")) as other:
        write(other, "etc/first", b"changed")
        expect_equal(read(root, "etc/first"), b"1", "a parent's file after its child wrote it")
    for key in ("c", "top", "base"):
        s.remove(key)
    expect_equal(list(s.walk()), [], "what is left after all was removed")


def check_stat(harness: Harness) -> None:
    """Stat tells kind, name, parent and times of each kind."""
    s = harness.snapshotter
    before = time.time_ns()
    s.prepare("active", "")
    expect_equal((s.stat("active").kind, s.stat("active").parent), (Kind.ACTIVE, ""), "an active")
    info = s.commit("committed", "active")
    s.view("view", "committed")
    after = time.time_ns()
    expect_equal(info, s.stat("committed"), "commit's answer and stat's")
    expect_equal((info.kind, info.name, info.parent), (Kind.COMMITTED, "committed", ""), "commit")
    view = s.stat("view")
    expect_equal((view.kind, view.name, view.parent), (Kind.VIEW, "view", "committed"), "a view")
    for one in (info, view):
        expect_equal(one.created, one.updated, f"times of {one.name!r} before any update")
        expect(before <= one.created <= after, f"{one.name!r} was created out of its time")


def check_parents_are_transitive(harness: Harness) -> None:
    """A chain of parents leads from the top to the bottom."""
    s = harness.snapshotter
    parent = ""
    for name in ("a", "b", "c"):
        s.prepare("key", parent)
        s.commit(name, "key")
        parent = name
    chain = []
    while parent:
        chain.append(parent)
        parent = s.stat(parent).parent
    expect_equal(chain, ["c", "b", "a"], "the chain of parents")


def check_clock_steps(harness: Harness) -> None:
    """When the clock goes back a day, or two ahead, nothing is lost and everything works."""
    s = harness.snapshotter
    clock = WallClock()
    names = ["old"]
    s.prepare("key", "")
    s.commit("old", "key")
    with clock.installed():
        for clock.days in (-1, 2, 0):
            name = f"day {clock.days}"
            s.prepare(name, names[-1])
            s.cleanup()
            expect_equal(s.stat(name).parent, names[-1], f"the parent of {name!r}")
            names.append(f"{name}, committed")
            s.commit(names[-1], name)
            s.update(Info(Kind.COMMITTED, "old", labels={"t.day": str(clock.days)}), ["labels"])
            expect_equal(s.stat("old").labels.get("t.day"), str(clock.days), "an updated label")
            expect_equal(sorted(info.name for info in s.walk()), sorted(names), "what is there")
        for name in reversed(names):
            s.remove(name)


def check_mounts_are_what_prepare_gave(harness: Harness) -> None:
    """Mounts answers what prepare and view answered, before and after others come and go."""
    s = harness.snapshotter
    given = {"empty": s.prepare("empty", ""), "empty view": s.view("empty view", "")}
    s.prepare("layer", "")
    s.commit("base", "layer")
    for number in range(3):
        given[f"active {number}"] = s.prepare(f"active {number}", "base")
        given[f"view {number}"] = s.view(f"view {number}", "base")
    s.commit("top", "active 0")
    del given["active 0"]
    s = harness.reopen()
    for key, mounts in given.items():
        expect_equal(s.mounts(key), mounts, f"mounts of {key!r}")
        expect(bool(mounts), f"{key!r} has no mounts")


def check_key_is_free_after_remove(harness: Harness) -> None:
    """Active, view and committed snapshots leave their key behind for the next one."""
    s = harness.snapshotter
    for _ in range(2):
        s.prepare("key", "")
        expect_equal(s.remove("key").kind, Kind.ACTIVE, "what remove of an active answers")
        s.view("key", "")
        expect_equal(s.remove("key").kind, Kind.VIEW, "what remove of a view answers")
        s.prepare("other", "")
        s.commit("key", "other")
        info = s.stat("key")
        expect_equal(s.remove("key"), info, "what remove of a committed answers")
    expect_equal(list(s.walk()), [], "what is left after all was removed")


def check_new_snapshot_starts_empty_again(harness: Harness) -> None:
    """A key that is used again has nothing of what it once held."""
    s = harness.snapshotter
    with harness.mounted(s.prepare("key", "")) as root:
        write(root, "secret", b"old")
    s.remove("key")
    with harness.mounted(s.prepare("key", "")) as root:
        expect_equal(os.listdir(root), [], "a fresh snapshot under an old key")


def check_everything_survives_reopening(harness: Harness) -> None:
    """Infos, usages, mounts and contents are the same after close and open."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "file", b"kept"), {"k": "v"})
    s.prepare("active", "base", labels={"a": "b"})
    infos = list(s.walk())
    usage = s.usage("base")
    s = harness.reopen()
    expect_equal(list(s.walk()), infos, "infos after reopening")
    expect_equal(s.usage("base"), usage, "usage after reopening")
    with harness.mounted(s.mounts("active")) as root:
        expect_equal(read(root, "file"), b"kept", "contents after reopening")


def check_close_twice(harness: Harness) -> None:
    """The second close is no error and says that there was nothing to do."""
    harness.snapshotter.prepare("key", "")
    expect(harness.snapshotter.close(), "the first close found nothing open")
    expect(not harness.snapshotter.close(), "the second close found something open")


def check_calls_after_close(harness: Harness) -> None:
    """A closed snapshotter refuses everything, and what it had is still there."""
    s = harness.snapshotter
    s.prepare("key", "")
    s.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: s.stat("key"),
        lambda: s.update(Info(Kind.ACTIVE, "key")),
        lambda: s.usage("key"),
        lambda: s.mounts("key"),
        lambda: s.prepare("new", ""),
        lambda: s.view("new", ""),
        lambda: s.target("key"),
        lambda: s.commit("name", "key"),
        lambda: s.remove("key"),
        lambda: list(s.walk()),
        lambda: s.status("key"),
        s.flush,
        s.cleanup,
    )
    for number, call in enumerate(calls):
        with expect_error(FailedPrecondition, f"call {number} after close"):
            call()
    expect_equal([info.name for info in harness.reopen().walk()], ["key"], "what is there")


def check_two_instances_share_the_state(harness: Harness) -> None:
    """Two opened instances see each other's work, as two processes would."""
    s = harness.snapshotter
    other = harness.open()
    try:
        s.prepare("one", "")
        expect_equal(other.stat("one"), s.stat("one"), "stat by the other instance")
        other.commit("base", "one")
        s.prepare("two", "base")
        other.remove("two")
        expect_equal([info.name for info in s.walk()], ["base"], "names seen by the first")
    finally:
        other.close()


CHECKS = (
    *checks(
        check_stat,
        check_parents_are_transitive,
        check_mounts_are_what_prepare_gave,
        check_key_is_free_after_remove,
        check_close_twice,
        check_calls_after_close,
        check_two_instances_share_the_state,
        mounts=False,
    ),
    *checks(check_clock_steps, mounts=False, local=True),
    *checks(
        check_stories,
        check_new_snapshot_starts_empty_again,
        check_everything_survives_reopening,
    ),
)
