"""Targets, and commits onto a parent that the snapshot was not prepared on."""

from __future__ import annotations

import os
import stat

from snapcore import labels as label_keys
from snapcore.conformance.harness import (
    Harness,
    checks,
    expect,
    expect_equal,
    expect_error,
    read,
    write,
)
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore.snapshots import Capability

_TO_BE_REBASED = {label_keys.SNAPSHOT_PARENT_CHAIN_ID: "sha256:" + "0" * 64}


def _bases(harness: Harness) -> None:
    s = harness.snapshotter
    for name in ("base", "other"):
        s.prepare("layer", "")
        s.commit(name, "layer")
    s.prepare("active", "")
    s.prepare("child", "base")


def check_rebase_table(harness: Harness) -> None:
    """Who may be rebased onto what, and the errors in their order."""
    s = harness.snapshotter
    _bases(harness)
    with expect_error(AlreadyExists, "rebase under a taken name"):
        s.commit("other", "active", parent="missing")
    with expect_error(NotFound, "rebase of a missing key"):
        s.commit("new", "missing", parent="also missing")
    with expect_error(FailedPrecondition, "rebase of a committed snapshot"):
        s.commit("new", "base", parent="missing")
    with expect_error(NotFound, "rebase onto a missing parent"):
        s.commit("new", "active", parent="missing")
    with expect_error(FailedPrecondition, "rebase onto an active parent"):
        s.commit("new", "active", parent="child")
    with expect_error(InvalidArgument, "rebase of what has another parent"):
        s.commit("new", "child", parent="other")
    expect_equal(s.commit("same", "child", parent="base").parent, "base", "the same parent again")
    info = s.commit("rebased", "active", parent="same")
    expect_equal((info.parent, s.stat("rebased").parent), ("same", "same"), "the new parent")
    with expect_error(FailedPrecondition, "remove of a parent gained by rebase"):
        s.remove("same")


def check_rebase_is_done_or_refused(harness: Harness) -> None:
    """Anybody commits onto the parent that there is; who cannot rebase refuses another one."""
    s = harness.snapshotter
    _bases(harness)
    expect_equal(s.commit("same", "child", parent="base").parent, "base", "the same parent again")
    before = s.stat("active")
    if Capability.REBASE in s.capabilities:
        expect_equal(s.commit("new", "active", parent="base").parent, "base", "the new parent")
        return
    with expect_error(Unimplemented, "a rebase"):
        s.commit("new", "active", parent="base")
    expect_equal(s.stat("active"), before, "what could not be rebased")
    expect_equal(s.commit("new", "active").parent, "", "the parent of what was not rebased")


def check_rebased_layer_shows_its_parent(harness: Harness) -> None:
    """A layer prepared on nothing shows its parent's files once it is committed onto it."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: (write(root, "a/one", b"1"), write(root, "gone")))
    s.prepare("key", "", labels=_TO_BE_REBASED)
    target = s.target("key")
    expect(bool(target.directory), "a target to be rebased is not a plain directory")
    expect(target.whiteouts is not WhiteoutStyle.APPLY, "it cannot hold whiteouts")
    write(target.directory, "a/two", b"2")
    os.mknod(os.path.join(target.directory, "gone"), stat.S_IFCHR, os.makedev(0, 0))
    s.commit("top", "key", parent="base")
    with harness.seen("top") as root:
        expect_equal(os.listdir(root), ["a"], "what the rebased layer and its parent show")
        expect_equal((read(root, "a/one"), read(root, "a/two")), (b"1", b"2"), "both files")
    harness.layer("more", "top", lambda root: write(root, "a/three", b"3"))
    with harness.seen("more") as root:
        expect_equal(sorted(os.listdir(os.path.join(root, "a"))), ["one", "three", "two"], "above")


def check_target_is_where_the_layer_goes(harness: Harness) -> None:
    """What is written into the target shows in the mounts and in the committed layer."""
    s = harness.snapshotter
    harness.layer("base", "", lambda root: write(root, "below", b"1"))
    for number, parent in enumerate(("", "base")):
        key = f"key {number}"
        mounts = s.prepare(key, parent)
        target = s.target(key)
        if not target.directory:
            with harness.mounted(target.mounts) as root:
                write(root, "written", b"2")
        else:
            write(target.directory, "written", b"2")
        with harness.mounted(mounts) as root:
            names = sorted(os.listdir(root))
            expect_equal(names, [*(["below"] if parent else []), "written"], "what is mounted")
            expect_equal(read(root, "written"), b"2", "what was written into the target")
        s.commit(f"name {number}", key)
        with harness.seen(f"name {number}") as root:
            wanted = ["below", "written"] if parent else ["written"]
            expect_equal(sorted(os.listdir(root)), wanted, "the committed layer")


def check_target_describes_its_style(harness: Harness) -> None:
    """Lowers come with overlay styles only, nearest first, and exist."""
    s = harness.snapshotter
    harness.layer("1", "", lambda root: write(root, "one"))
    harness.layer("2", "1", lambda root: write(root, "two"))
    s.prepare("key", "2")
    target = s.target("key")
    if target.whiteouts is WhiteoutStyle.APPLY:
        expect_equal(target.lowers, (), "lowers of a target that shows everything")
        return
    expect_equal(
        [os.listdir(lower) for lower in target.lowers], [["two"], ["one"]], "the lowers' files"
    )
    expect(os.path.isabs(target.directory), "the target is no absolute path")


def check_opaque_root_hides_what_is_below(harness: Harness) -> None:
    """An opaque mark on a layer's root hides all layers below; the parent stays the parent."""
    s = harness.snapshotter
    harness.layer("1", "", lambda root: write(root, "one"))
    harness.layer("2", "1", lambda root: write(root, "two"))
    s.prepare("key", "2")
    target = s.target("key")
    if target.whiteouts is WhiteoutStyle.APPLY:
        return  # such a backend deletes while it applies
    os.setxattr(target.directory, target.whiteouts.opaque_xattr, b"y")
    write(target.directory, "three")
    info = s.commit("3", "key")
    expect_equal(info.parent, "2", "the parent of an opaque layer")
    harness.layer("4", "3", lambda root: write(root, "four"))
    for name, wanted in (("3", ["three"]), ("4", ["four", "three"]), ("2", ["one", "two"])):
        with harness.seen(name) as root:
            expect_equal(sorted(os.listdir(root)), wanted, f"what layer {name} shows")
    with harness.mounted(s.prepare("child", "3")) as root:
        expect_equal(os.listdir(root), ["three"], "what a child of an opaque layer shows")
    expect_equal(len(s.target("child").lowers), 1, "lowers above an opaque layer")


CHECKS = (
    *checks(check_rebase_is_done_or_refused, mounts=False),
    *checks(check_rebase_table, needs=(Capability.REBASE,), mounts=False),
    *checks(check_rebased_layer_shows_its_parent, needs=(Capability.REBASE,)),
    *checks(
        check_target_is_where_the_layer_goes,
        check_target_describes_its_style,
        check_opaque_root_hides_what_is_below,
    ),
)
