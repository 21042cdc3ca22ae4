"""Layers that a backend makes available by itself (label `containerd.io/snapshot.ref`)."""

from __future__ import annotations

from snapcore import labels as label_keys
from snapcore.conformance.harness import CheckFailed, Harness, checks, expect, expect_equal
from snapcore.errors import AlreadyExists, NotFound
from snapcore.snapshots import Capability, Kind, Snapshotter

_UNKNOWN = "sha256:" + "0" * 64


def check_snapshot_ref_is_a_label(harness: Harness) -> None:
    """A layer that nobody knows is prepared as ever, writable, and its ref kept as a label."""
    s = harness.snapshotter
    s.prepare("layer", "")
    s.commit("base", "layer")
    labels = {label_keys.SNAPSHOT_REF: _UNKNOWN}
    for parent in ("", "base"):
        mounts = s.prepare("key", parent, labels=labels)
        expect(not mounts[-1].read_only, f"mounts of a layer that is not there: {mounts}")
        expect_equal(s.stat("key").labels.get(label_keys.SNAPSHOT_REF), _UNKNOWN, "its ref")
        info = s.commit(_UNKNOWN, "key", labels=labels)
        expect_equal(info.labels.get(label_keys.SNAPSHOT_REF), _UNKNOWN, "its ref after commit")
        s.remove(_UNKNOWN)


def check_remote_supplies_a_layer(harness: Harness) -> None:
    """It is committed as the ref, with label and parent; or staged, and only to be committed."""
    s = harness.snapshotter
    ref = harness.supply[label_keys.SNAPSHOT_REF]
    s.prepare("layer", "")
    s.commit("base", "layer")
    for parent in ("", "base"):
        try:
            mounts = s.prepare("key", parent, labels=harness.supply)
        except AlreadyExists:
            _expect_no(s, "key")
            _expect_taken(harness, parent)
        else:
            expect(mounts[-1].read_only, f"neither committed nor staged: {mounts}")
            expect_equal(s.mounts("key"), mounts, "mounts of what is staged")
            s.commit(ref, "key", labels=harness.supply)
        info = s.stat(ref)
        found = (info.kind, info.parent, info.labels.get(label_keys.SNAPSHOT_REF))
        expect_equal(found, (Kind.COMMITTED, parent, ref), "the layer that was made available")
        s.remove(ref)


def _expect_taken(harness: Harness, parent: str) -> None:
    """Check that what was made available once is not made available again."""
    try:
        harness.snapshotter.prepare("key", parent, labels=harness.supply)
    except AlreadyExists:
        return
    raise CheckFailed("a layer that is there already was prepared once more")


def _expect_no(s: Snapshotter, key: str) -> None:
    try:
        s.stat(key)
    except NotFound:
        return
    raise CheckFailed(f"the layer was made available, and {key!r} is there too")


CHECKS = (
    *checks(check_snapshot_ref_is_a_label, mounts=False),
    *checks(check_remote_supplies_a_layer, needs=(Capability.REMOTE,), mounts=False, supply=True),
)
