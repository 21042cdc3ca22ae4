"""A collection on real stores: what stays, what goes, and who comes in between."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from support.collect import NAME, Root

from snapcore import labels
from snapcore.errors import FailedPrecondition, PermissionDenied
from snapcore.gc import Budget, Collector, Thing, ThingKind, explain
from snapcore.locks import FileLock
from snapcore.metadata import Resource, snapshot
from snapcore.oci import Digest
from snapcore.snapshots import Checkpoint, Info, Snapshotter


def stack(root: Root, name: str, base: str = "", data: bytes = b"") -> None:
    """Make an image with a manifest, a config, a layer and two snapshots."""
    base = base or root.committed(f"{name}-base", size=4096)
    top = root.committed(f"{name}-top", base)
    layer = root.blob(data or name.encode() + b" layer")
    config = root.blob(name.encode() + b" config", snapshot=top)
    manifest = root.blob(name.encode() + b" manifest", config=str(config), l0=str(layer))
    root.image(name, manifest)


def test_what_an_image_needs_stays(root: Root) -> None:
    stack(root, "a")
    before = root.names(), root.blobs()
    report = root.collector().collect()
    assert (report.removed, report.spared, dict(report.failed)) == ((), (), {})
    assert (root.names(), root.blobs()) == before


def test_everything_else_goes_and_is_counted(root: Root) -> None:
    stack(root, "a")
    stack(root, "b")
    kept = {name for name in root.names() if name.startswith("a")}
    root.metadata.images.delete("b")
    plan = root.collector().plan()
    assert [item.thing.id for item in plan.garbage[:2]] == ["b-top", "b-base"]
    report = root.collector().collect()
    assert report.removed == plan.garbage
    assert report.size == plan.size > 4096
    assert root.names() == kept
    assert len(root.blobs()) == 3
    # Files are gone too, not only records.
    assert len(list((root.path / NAME / "snapshots").iterdir())) == 2
    assert root.metadata.condemned.list() == ()
    assert root.collector().collect().removed == ()


def test_lock_files_that_nobody_holds_go(root: Root) -> None:
    (root.path / "lock/chain-native-1").touch()
    held = FileLock(str(root.path / "lock/blob-2"))
    assert held.try_acquire()
    assert root.collector().collect().orphans == {"lock files": 1}
    assert sorted(os.listdir(root.path / "lock")) == ["blob-2", "gc", "root"]
    held.discard()


def test_what_is_shared_stays_with_the_last_image(root: Root) -> None:
    stack(root, "a", data=b"shared")
    stack(root, "b", base="a-base", data=b"shared")
    root.metadata.images.delete("a")
    root.collector().collect()
    assert root.names() == {"a-base", "b-top"}
    assert len(root.blobs()) == 3
    root.metadata.images.delete("b")
    root.collector().collect()
    assert (root.names(), root.blobs()) == (set(), set())


@pytest.mark.parametrize("label", [labels.GC_ROOT, labels.OWNER])
def test_a_label_keeps_a_snapshot_and_its_parents(root: Root, label: str) -> None:
    root.committed("base")
    root.snapshotter.view("view", "base", labels={label: "x"})
    root.snapshotter.view("other", "base")
    root.collector().collect()
    assert root.names() == {"base", "view"}


def test_a_lease_keeps_what_it_holds(root: Root) -> None:
    blob = root.blob(b"leased")
    root.committed("base")
    root.committed("top", "base")
    root.metadata.leases.create("lease")
    held = [Resource("content", str(blob)), snapshot(NAME, "top")]
    root.metadata.leases.hold("lease", held)
    root.collector().collect()
    assert (root.names(), root.blobs()) == ({"base", "top"}, {blob})
    root.metadata.leases.delete("lease")
    root.collector().collect()
    assert (root.names(), root.blobs()) == (set(), set())


def test_work_of_the_living_stays_and_that_of_the_dead_goes(root: Root) -> None:
    root.committed("base")
    dead = "0" * 32
    for owner in (root.owner.id, dead):
        root.snapshotter.prepare(f"extract-{owner}-1 x", "base")
    root.collector().collect()
    assert root.names() == {"base", f"extract-{root.owner.id}-1 x"}


def test_a_mount_keeps_its_snapshot(root: Root) -> None:
    root.committed("base")
    root.snapshotter.view("key", "base")
    root.metadata.mounts.put("/mnt/x", "a", NAME, "key", rw=False)
    root.collector().collect()
    assert root.names() == {"base", "key"}
    graph = root.collector().graph()
    found = explain(graph, Thing(ThingKind.SNAPSHOT, "base", NAME))
    assert [step.thing.kind for step in found.steps] == ["mount", "snapshot", "snapshot"]


def test_who_leases_between_mark_and_sweep_keeps_it(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.committed("base")
    root.committed("top", "base")
    blob = root.blob(b"reused")
    collector = root.collector()
    plan = collector.plan()
    assert len(plan.garbage) == 3
    root.metadata.leases.create("late")
    held = [Resource("content", str(blob)), snapshot(NAME, "top"), snapshot(NAME, "base")]
    root.metadata.leases.hold("late", held)
    monkeypatch.setattr(type(collector), "plan", lambda *_: plan)
    report = collector.collect()
    assert report.removed == ()
    assert len(report.spared) == 3
    assert (root.names(), root.blobs()) == ({"base", "top"}, {blob})


def test_a_child_that_came_after_the_scan_keeps_its_parent(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.committed("base")
    collector = root.collector()
    plan = collector.plan()
    root.snapshotter.view("late", "base")
    monkeypatch.setattr(type(collector), "plan", lambda *_: plan)
    report = collector.collect()
    assert [thing.id for thing in report.spared] == ["base"]
    assert root.names() == {"base", "late"}


def test_one_failing_removal_does_not_stop_the_rest(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        root.committed(name)
    real = Snapshotter.remove

    def remove(self: Snapshotter, key: str, *, checkpoint: Checkpoint) -> Info:
        if key == "two":
            raise PermissionDenied("not this one")
        return real(self, key, checkpoint=checkpoint)

    monkeypatch.setattr(Snapshotter, "remove", remove)
    report = root.collector().collect()
    assert {item.thing.id for item in report.removed} == {"one", "three"}
    assert list(report.failed.values()) == ["not this one"]
    assert root.names() == {"two"}
    assert root.metadata.condemned.list() == ()


def test_a_backend_that_cannot_be_opened_is_named_and_kept(root: Root) -> None:
    config = root.blob(b"config", root="1")
    root.content.update(config, {labels.gc_ref_snapshot("gone"): "x"}, ())
    report = root.collector(gone="not installed").collect()
    assert report.unopened == {"gone": "not installed"}


@pytest.mark.parametrize(
    ("alive", "expected", "stays"),
    [
        pytest.param(True, None, True, id="its writer lives"),
        pytest.param(False, Digest.of(b"xyz"), True, id="it may be resumed"),
        # What should become of it only its writer knew, and nobody asks for it.
        pytest.param(False, None, False, id="it cannot be resumed"),
    ],
)
def test_an_unfinished_blob_waits_a_day(
    root: Root, alive: bool, expected: Digest | None, stays: bool
) -> None:
    with root.content.ingest("young", total=10, expected=expected) as ingest:
        ingest.write(b"x")
    sources = replace(root.sources(), alive=lambda _owner: alive)
    Collector(sources, str(root.path / "lock"), root.owner.id).collect()
    assert bool(root.content.statuses()) == stays


@pytest.mark.parametrize("leased", [False, True])
def test_an_old_unfinished_blob_of_the_dead_goes_unless_it_is_leased(
    root: Root, leased: bool
) -> None:
    with root.content.ingest("old", total=10) as ingest:
        ingest.write(b"x")
    (data,) = (root.path / "content").glob("ingest/*/data")
    os.utime(data, (1, 1))
    if leased:
        root.metadata.leases.create("lease")
        root.metadata.leases.hold("lease", [Resource("ingests", "old")])
    dead = replace(root.sources(), alive=lambda _owner: False)
    report = Collector(dead, str(root.path / "lock"), root.owner.id).collect()
    assert [item.thing.id for item in report.removed] == ([] if leased else ["old"])
    assert len(root.content.statuses()) == leased


def test_what_was_left_behind_is_reported_apart_from_what_goes_now(root: Root) -> None:
    root.committed("left")
    root.snapshotter.remove("left")
    root.committed("garbage")
    report = root.collector().collect()
    assert report.orphans == {f"directories of {NAME}": 1}
    assert [item.thing.id for item in report.removed] == ["garbage"]
    assert list((root.path / NAME / "snapshots").iterdir()) == []
    assert root.collector().collect().orphans == {}


def test_the_budget_takes_the_least_recently_used_and_spares_what_is_used(root: Root) -> None:
    for name in ("first", "second", "third"):
        stack(root, name)
    root.metadata.images.touch("first")
    root.snapshotter.view("key", "second-top")
    root.metadata.mounts.put("/mnt/x", "second", NAME, "key", rw=False)
    one = root.collector().collect(Budget(keep=10**9))
    assert one.images == ()
    two = root.collector().collect(Budget(keep=0))
    assert [image.id for image in two.images] == ["third", "first"]
    assert [image.name for image in root.metadata.images.list()] == ["second"]
    assert root.names() == {"second-base", "second-top", "key"}


def test_images_unused_for_long_go(root: Root) -> None:
    stack(root, "old")
    stack(root, "new")
    with root.metadata.database.write() as connection:
        connection.execute("UPDATE images SET used = used - 10000000000 WHERE name = 'old'")
    report = root.collector().collect(Budget(unused=5 * 10**9))
    assert [image.id for image in report.images] == ["old"]
    assert root.names() == {"new-base", "new-top"}


def test_a_dry_run_does_nothing(root: Root) -> None:
    root.committed("base")
    plan = root.collector().plan(Budget(keep=0))
    assert [item.thing.id for item in plan.garbage] == ["base"]
    assert root.names() == {"base"}


def test_two_collectors_take_turns(root: Root) -> None:
    lock = FileLock(str(root.path / "lock/gc"))
    assert lock.try_acquire()

    def checkpoint() -> None:
        raise FailedPrecondition("waited")

    sources = replace(root.sources(), checkpoint=checkpoint)
    with pytest.raises(FailedPrecondition, match="waited"):
        Collector(sources, str(root.path / "lock"), root.owner.id).collect()
    lock.release()
