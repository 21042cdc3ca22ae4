"""Broken snapshots: nothing new stands on them, and a commit can take their place.

A backend without the hook `mark_broken` has none, and says so with Unimplemented.
"""

from __future__ import annotations

import os

from snapcore.conformance.harness import (
    Harness,
    LeftOut,
    checks,
    expect_equal,
    expect_error,
    read,
    write,
)
from snapcore.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound, Unimplemented
from snapcore.snapshots import Info, Kind, Snapshotter, State


def _mark(s: Snapshotter, name: str) -> Info:
    """Have a snapshot broken.

    Raises:
        LeftOut: the backend has no broken ones.
    """
    try:
        return s.mark_broken(name)
    except Unimplemented as error:
        raise LeftOut(f"{s.name} has no broken snapshots") from error


def _layers(s: Snapshotter, *names: str) -> None:
    """Commit snapshots, each on the one before."""
    parent = ""
    for name in names:
        s.prepare("layer", parent)
        s.commit(name, "layer")
        parent = name


def check_broken_parents(harness: Harness) -> None:
    """Prepare and view on one, or on what stands on one: DataLoss, before AlreadyExists."""
    s = harness.snapshotter
    _layers(s, "whole")
    _layers(s, "bottom", "broken", "above")
    s.prepare("active", "whole")
    info = _mark(s, "broken")
    found = (info.kind, info.name, info.parent, info.state)
    expect_equal(found, (Kind.COMMITTED, "broken", "bottom", State.BROKEN), "mark_broken's answer")
    expect_equal(s.stat("broken"), info, "stat's answer and mark_broken's")
    states = {info.name: info.state for info in s.walk() if info.state is State.BROKEN}
    expect_equal(list(states), ["broken"], "what is broken in a walk")
    for method in (s.prepare, s.view):
        for key in ("new", "active"):
            for parent in ("broken", "above"):
                with expect_error(DataLoss, f"{method.__name__} {key!r} on {parent!r}"):
                    method(key, parent)
    names = [info.name for info in s.walk()]
    expect_equal(names, ["above", "active", "bottom", "broken", "whole"], "names afterwards")
    s = harness.reopen()
    expect_equal(s.stat("broken"), info, "stat's answer after reopening")
    for parent in ("bottom", "whole"):
        s.prepare(f"active on {parent}", parent)
        s.view(f"view of {parent}", parent)


def check_what_cannot_be_broken(harness: Harness) -> None:
    """What is not there, is not committed, or is below what may be mounted."""
    s = harness.snapshotter
    _layers(s, "alone")
    _mark(s, "alone")
    _layers(s, "base", "top")
    s.prepare("active", "top")
    with expect_error(NotFound, "marking a missing snapshot"):
        s.mark_broken("missing")
    with expect_error(FailedPrecondition, "marking an active snapshot"):
        s.mark_broken("active")
    s.view("view", "base")
    with expect_error(FailedPrecondition, "marking a view"):
        s.mark_broken("view")
    for name in ("top", "base"):
        with expect_error(FailedPrecondition, f"marking {name!r}, which an active stands on"):
            s.mark_broken(name)
    s.remove("active")
    with expect_error(FailedPrecondition, "marking 'base', which a view stands on"):
        s.mark_broken("base")
    s.remove("view")
    s.prepare("active", "top")
    s.remove("active")
    for name in ("base", "top", "base"):
        expect_equal(s.mark_broken(name).state, State.BROKEN, f"the state of {name!r}")
    for name in ("top", "base", "alone"):
        s.remove(name)
    expect_equal(list(s.walk()), [], "what is left after all was removed")


def check_broken_is_replaced_by_a_commit(harness: Harness) -> None:
    """The next commit of that name on that parent takes its place, its children and labels."""
    s = harness.snapshotter
    _layers(s, "bottom")
    s.prepare("layer", "bottom")
    s.commit("broken", "layer", labels={"t.kept": "1", "t.both": "1"})
    s.prepare("layer", "broken")
    s.commit("above", "layer")
    s.prepare("elsewhere", "")
    s.prepare("again", "bottom")
    with expect_error(AlreadyExists, "commit under the name of a whole snapshot"):
        s.commit("broken", "again")
    _mark(s, "broken")
    with expect_error(AlreadyExists, "commit under its name, but on another parent"):
        s.commit("broken", "elsewhere")
    with expect_error(NotFound, "commit of a missing key under its name"):
        s.commit("broken", "missing")
    info = s.commit("broken", "again", labels={"t.both": "2"})
    expect_equal(info.state is State.BROKEN, False, "whether what took its place is broken")
    labels = {key: value for key, value in info.labels.items() if key.startswith("t.")}
    expect_equal(labels, {"t.kept": "1", "t.both": "2"}, "its labels")
    expect_equal((info.parent, s.stat("above").parent), ("bottom", "broken"), "parents")
    with expect_error(NotFound, "stat of the key"):
        s.stat("again")
    s.prepare("child", "above")
    with expect_error(FailedPrecondition, "remove of what took its place"):
        s.remove("broken")
    s.cleanup()
    expect_equal([i.name for i in s.walk(["parent==broken"])], ["above"], "its children")


def check_what_replaces_broken_shows(harness: Harness) -> None:
    """It shows its own files, none of the broken one's, also after a cleanup."""
    s = harness.snapshotter
    harness.layer("broken", "", lambda root: write(root, "damaged", b"1"))
    harness.layer("above", "broken", lambda root: write(root, "upper", b"2"))
    _mark(s, "broken")
    harness.layer("broken", "", lambda root: write(root, "right", b"3"))
    s.cleanup()
    with harness.seen("broken") as root:
        expect_equal(os.listdir(root), ["right"], "files of what took its place")
    with harness.seen("above") as root:
        expect_equal(read(root, "upper"), b"2", "a file of its child")


CHECKS = (
    *checks(
        check_broken_parents,
        check_what_cannot_be_broken,
        check_broken_is_replaced_by_a_commit,
        mounts=False,
    ),
    *checks(check_what_replaces_broken_shows),
)
