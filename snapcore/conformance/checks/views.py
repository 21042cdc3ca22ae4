"""Views: read-only, and really so, while the layer below stays as it was committed."""

from __future__ import annotations

import os
from collections.abc import Callable

from snapcore.conformance.harness import (
    CheckFailed,
    Harness,
    checks,
    expect,
    expect_equal,
    read,
    write,
)
from snapcore.snapshots import Capability


def _attempts(root: str) -> dict[str, Callable[[], object]]:
    file = os.path.join(root, "file")
    return {
        "write into a file": lambda: write(root, "file", b"changed"),
        "make a file": lambda: write(root, "new"),
        "remove a file": lambda: os.unlink(file),
        "rename a file": lambda: os.rename(file, file + "2"),
        "change a mode": lambda: os.chmod(file, 0o600),
        "change the root's mode": lambda: os.chmod(root, 0o700),
        "set a time": lambda: os.utime(file, ns=(0, 0)),
        "make a directory": lambda: os.mkdir(os.path.join(root, "dir2")),
        "make a link": lambda: os.link(file, file + "3"),
        "set an xattr": lambda: os.setxattr(file, "user.x", b"y"),
    }


def _expect_refused(root: str, what: str) -> None:
    for attempt, action in _attempts(root).items():
        try:
            action()
        except OSError:
            continue
        raise CheckFailed(f"in {what} one can {attempt}")


def check_view_is_read_only(harness: Harness) -> None:
    """Nothing can be changed through a view of one, of two, or of no layers."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "file", b"1"))
    harness.layer("top", "base", lambda root: write(root, "dir/other", b"2"))
    for name in ("base", "top"):
        with harness.seen(name) as root:
            _expect_refused(root, f"a view of {name!r}")
            expect_equal(read(root, "file"), b"1", "a file after all attempts")
    with harness.mounted(s.view("empty", "")) as root:
        try:
            write(root, "new")
        except OSError:
            expect_equal(os.listdir(root), [], "what an empty view holds")
        else:
            raise CheckFailed("in an empty view one can make a file")


def check_every_mount_of_a_view_is_read_only(harness: Harness) -> None:
    """The list itself says so, for callers that mount it in their own way."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("base", "layer")
    s.prepare("layer", "base")
    s.commit("top", "layer")
    for parent in ("", "base", "top"):
        mounts = s.view(f"view of {parent}", parent)
        expect(all(mount.read_only for mount in mounts), f"a writable mount: {mounts}")
        mounts = s.prepare(f"active on {parent}", parent)
        expect(not mounts[-1].read_only, f"a read-only mount of an active: {mounts}")


def check_views_and_actives_do_not_disturb_each_other(harness: Harness) -> None:
    """Two containers and a view of one image each see their own changes only."""
    s = harness.snapshotter
    harness.layer("image", "", lambda root: write(root, "file", b"image"))
    with (
        harness.mounted(s.prepare("one", "image")) as one,
        harness.mounted(s.prepare("two", "image")) as two,
        harness.mounted(s.view("view", "image")) as view,
    ):
        write(one, "file", b"one")
        write(two, "new", b"two")
        os.unlink(os.path.join(two, "file"))
        expect_equal(read(one, "file"), b"one", "the first container's file")
        expect_equal(os.listdir(two), ["new"], "the second container's files")
        expect_equal((os.listdir(view), read(view, "file")), (["file"], b"image"), "the view")


def check_committed_never_changes(harness: Harness) -> None:
    """What was mounted before commit and after shows the same, whatever children do."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "file", b"base"))
    with harness.mounted(s.prepare("child", "base")) as root:
        with open(os.path.join(root, "file"), "ab") as stream:
            stream.write(b" and more")
        os.chmod(root, 0o700)
    with harness.seen("base") as root:
        expect_equal(read(root, "file"), b"base", "a parent's file after a child appended to it")
        expect_equal(os.stat(root).st_mode & 0o7777, 0o755, "a parent's root mode")


CHECKS = (
    *checks(check_every_mount_of_a_view_is_read_only, mounts=False),
    *checks(check_view_is_read_only, needs=(Capability.READONLY_VIEW,)),
    *checks(check_views_and_actives_do_not_disturb_each_other, check_committed_never_changes),
)
