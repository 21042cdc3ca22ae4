"""Id maps: labels of prepare and view make a tree show other ids, without changing a layer."""

from __future__ import annotations

import os
from dataclasses import replace

from snapcore import labels as label_keys
from snapcore.conformance.harness import Harness, checks, expect_equal, expect_error, read, write
from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from snapcore.snapshots import Capability, Labels

_MAPPED: Labels = {
    label_keys.SNAPSHOT_UIDMAP: "0:100000:1000,1000:300000:1000",
    label_keys.SNAPSHOT_GIDMAP: "0:200000:2000",
}


def _fill(root: str) -> None:
    write(root, "dir/file", b"1")
    os.chown(os.path.join(root, "dir/file"), 1234, 7)


def _owner(root: str, path: str = "") -> tuple[int, int]:
    status = os.stat(os.path.join(root, path))
    return status.st_uid, status.st_gid


def _write_as_mapped_root(root: str) -> None:
    """Write `dir/new` as a container's root does: ids outside of the maps cannot."""
    child = os.fork()
    if not child:
        try:
            os.chdir(root)
            os.setresgid(200_000, 200_000, 200_000)
            os.setresuid(100_000, 100_000, 100_000)
            write("", "dir/new", b"new")
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    expect_equal(status, 0, "exit of a process with mapped ids that writes")


def check_mapped_ids(harness: Harness) -> None:
    """Views and Actives show mapped owners, on one layer and on two; the layers keep theirs."""
    s = harness.snapshotter
    harness.layer("1", "", _fill)
    harness.layer("2", "1", lambda root: write(root, "other", b"2"))
    for parent in ("1", "2"):
        mounts = s.view(f"view {parent}", parent, labels=_MAPPED)
        expect_equal(s.mounts(f"view {parent}"), mounts, "mounts of a mapped view")
        active = s.prepare(f"active {parent}", parent, labels=_MAPPED)
        for given in (mounts, active):
            with harness.mounted(given) as root:
                expect_equal(_owner(root), (100_000, 200_000), "owner of the root")
                expect_equal(_owner(root, "dir"), (100_000, 200_000), "owner of a directory")
                expect_equal(_owner(root, "dir/file"), (300_234, 200_007), "owner of a file")
        with harness.mounted(active) as root:
            _write_as_mapped_root(root)
            os.chmod(os.path.join(root, "dir/file"), 0o600)
            expect_equal(_owner(root, "dir/new"), (100_000, 200_000), "owner of a new file")
            expect_equal(_owner(root, "dir/file"), (300_234, 200_007), "owner of a changed file")
        with harness.mounted(s.mounts(f"active {parent}")) as root:
            expect_equal(read(root, "dir/new"), b"new", "a new file, mounted again")
            expect_equal(_owner(root, "dir/new"), (100_000, 200_000), "its owner")
        with harness.seen(parent) as root:
            expect_equal(_owner(root, "dir/file"), (1234, 7), "owner of the layer's own file")


def check_malformed_maps(harness: Harness) -> None:
    """Maps that say nothing sensible are refused, and nothing is left."""
    s = harness.snapshotter
    for bad in ("0:0", "a:0:1", "0:0:0", "0:4294967295:2", ""):
        with expect_error(InvalidArgument, f"prepare with map {bad!r}"):
            s.prepare("key", "", labels={**_MAPPED, label_keys.SNAPSHOT_UIDMAP: bad})
        with expect_error(NotFound, "stat of what was refused"):
            s.stat("key")


def check_maps_are_honoured_or_refused(harness: Harness) -> None:
    """Who cannot map ids says so, and does not show the wrong owners."""
    s = harness.snapshotter
    if Capability.REMAP_IDS in s.capabilities:
        s.prepare("key", "", labels=_MAPPED)
        return
    for make in (s.prepare, s.view):
        with expect_error(Unimplemented, "a snapshot with id maps"):
            make("key", "", labels=_MAPPED)


def check_mapped_actives_are_no_layers(harness: Harness) -> None:
    """An Active with id maps takes no layer and is not committed, on a parent or on none."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("base", "layer")
    for parent in ("", "base"):
        mounts = s.prepare("key", parent, labels=_MAPPED)
        with expect_error(FailedPrecondition, "target of a mapped Active"):
            s.target("key")
        with expect_error(AlreadyExists, "commit of a mapped Active under a taken name"):
            s.commit("base", "key")
        with expect_error(FailedPrecondition, "commit of a mapped Active"):
            s.commit("new", "key")
        expect_equal(s.mounts("key"), mounts, "mounts after a refused commit")
        expect_equal(s.remove("key").labels.items() >= _MAPPED.items(), True, "its maps stayed")


def check_maps_do_not_change(harness: Harness) -> None:
    """An update can neither take the maps of an Active or View away nor give it others."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("base", "layer")
    s.prepare("mapped", "base", labels=_MAPPED)
    s.view("mapped view", "base", labels=_MAPPED)
    s.prepare("plain", "base")
    for key, change in (
        ("mapped", {}),
        ("mapped view", {}),
        ("mapped", {**_MAPPED, label_keys.SNAPSHOT_UIDMAP: "0:1:1"}),
        ("plain", _MAPPED),
    ):
        before = s.mounts(key)
        info = replace(s.stat(key), labels=change)
        for paths in ((), ("labels",), tuple(f"labels.{label}" for label in _MAPPED)):
            with expect_error(InvalidArgument, f"update of {key!r} by {paths}"):
                s.update(info, paths)
        expect_equal(s.mounts(key), before, f"mounts of {key!r} after refused updates")
    info = s.stat("mapped")
    s.update(replace(info, labels={"t.one": "1"}), ("labels.t.one",))
    changed = s.update(replace(info, labels={**info.labels, "t.two": "2"}), ())
    expect_equal(changed.labels.get("t.two"), "2", "another label beside the maps")
    expect_equal(changed.labels.items() >= _MAPPED.items(), True, "the maps beside it")


CHECKS = (
    *checks(check_maps_are_honoured_or_refused, mounts=False),
    *checks(
        check_malformed_maps,
        check_mapped_actives_are_no_layers,
        check_maps_do_not_change,
        needs=(Capability.REMAP_IDS,),
        mounts=False,
    ),
    *checks(check_mapped_ids, needs=(Capability.REMAP_IDS,), privileged=True),
)
