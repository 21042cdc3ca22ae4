"""Usage: what removal would free, parents not counted; and that removal frees it."""

from __future__ import annotations

import os

from snapcore.conformance.harness import (
    Harness,
    LeftOut,
    checks,
    entries,
    expect,
    expect_equal,
    write,
)
from snapcore.snapshots import Usage

_MIB = 1 << 20


def _own(usage: Usage) -> int:
    """Return the bytes that are not the parent's."""
    return usage.size if usage.delta is None else usage.delta


def check_usage_of_an_active_is_live(harness: Harness) -> None:
    """It grows with what is written and shrinks with what is deleted."""
    s = harness.snapshotter
    mounts = s.prepare("key", "")
    empty = s.usage("key")
    expect(empty.size < _MIB, f"an empty snapshot takes {empty.size} bytes")
    with harness.mounted(mounts) as root:
        path = write(root, "file", os.urandom(_MIB))
        os.sync()
        full = s.usage("key")
        os.unlink(path)
    expect(full.size - empty.size >= _MIB, f"1 MiB more is {full.size - empty.size} bytes")
    expect_equal(full.inodes - empty.inodes, 1, "inodes of one file")
    expect_equal(s.usage("key").inodes, empty.inodes, "inodes after the file was deleted")


def check_usage_is_stored_at_commit(harness: Harness) -> None:
    """A committed snapshot has the usage that it had as an active."""
    s = harness.snapshotter
    with harness.mounted(s.prepare("key", "")) as root:
        write(root, "a/file", b"x" * _MIB)
        os.sync()
    before = s.usage("key")
    s.commit("name", "key")
    expect_equal(s.usage("name"), before, "usage after commit")


def check_usage_leaves_parents_out(harness: Harness) -> None:
    """A child of a large layer is small, and so is a view of it."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "large", os.urandom(4 * _MIB)))
    mounts = s.prepare("child", "base")
    if not harness.local and s.usage("child").size >= s.usage("base").size:
        raise LeftOut("it copies, and a service has no field for what of that is not its parent's")
    expect(_own(s.usage("child")) < _MIB, f"an unchanged child: {s.usage('child')}")
    with harness.mounted(mounts) as root:
        write(root, "new", os.urandom(_MIB))
        os.sync()
    grown = _own(s.usage("child"))
    expect(_MIB <= grown < 2 * _MIB, f"a child with 1 MiB more has {grown} bytes of its own")
    s.commit("top", "child")
    expect_equal(_own(s.usage("top")), grown, "the same after commit")
    s.view("view", "top")
    usage = s.usage("view")
    expect(usage.size < _MIB, f"a view frees {usage.size} bytes")


def check_usage_counts_inodes_once(harness: Harness) -> None:
    """Hard links do not count twice, and holes not at all."""
    s = harness.snapshotter
    with harness.mounted(s.prepare("key", "")) as root:
        path = write(root, "file", os.urandom(_MIB))
        for number in range(5):
            os.link(path, f"{path}{number}")
        os.link(write(root, "one", b"1"), os.path.join(root, "the same"))
        os.symlink("nowhere", os.path.join(root, "link"))
        with open(os.path.join(root, "hole"), "wb") as stream:
            stream.truncate(100 * _MIB)
        os.sync()
    usage = s.usage("key")
    expect(_MIB <= usage.size < 2 * _MIB, f"1 MiB with 6 names takes {usage.size} bytes")
    expect_equal(usage.size % 512, 0, "bytes beyond whole blocks")
    expect_equal(usage.inodes, 5, "inodes of the root, two files, a symlink and a hole")


def check_cleanup_frees_what_was_removed(harness: Harness) -> None:
    """After remove and cleanup the state root holds no more files than before."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: [write(root, f"d{n}/f", b"x") for n in range(50)])
    before = entries(s.root)
    for _ in range(3):
        s.prepare("active", "base")
        s.view("view", "base")
        s.remove("active")
        s.remove("view")
    s.cleanup()
    expect_equal(entries(s.root), before, "entries below the state root")
    again = s.cleanup()
    expect_equal(again.directories, 0, "directories that a second cleanup removes")


def check_cleanup_leaves_the_living(harness: Harness) -> None:
    """Cleanup takes nothing from snapshots in use, mounted ones included."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "file", b"1"))
    with harness.mounted(s.prepare("key", "base")) as root, harness.seen("base") as view:
        write(root, "new", b"2")
        s.cleanup()
        expect_equal(sorted(os.listdir(root)), ["file", "new"], "an active after cleanup")
        expect_equal(os.listdir(view), ["file"], "a view after cleanup")
    expect_equal(sorted(i.name for i in s.walk()), ["base", "key"], "names after cleanup")


def check_flush(harness: Harness) -> None:
    """Flush answers, and what was committed before it is still there after reopening."""
    harness.layer("base", "", lambda root: write(root, "file", b"1"))
    expect(harness.snapshotter.flush().synced >= 1, "flush synced no filesystem")
    s = harness.reopen()
    expect_equal([info.name for info in s.walk()], ["base"], "names after flush and reopening")


CHECKS = (
    *checks(
        check_usage_of_an_active_is_live,
        check_usage_is_stored_at_commit,
        check_usage_leaves_parents_out,
        check_usage_counts_inodes_once,
        check_cleanup_leaves_the_living,
    ),
    *checks(check_cleanup_frees_what_was_removed, check_flush, local=True),
)
