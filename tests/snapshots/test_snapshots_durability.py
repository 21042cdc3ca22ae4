"""What a power cut, or a sync that fails, makes of commits; and when commits are synced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from support.metastores import commit, committed, create, names

from snapcore.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from snapcore.snapshots import (
    DiskStore,
    Durability,
    Info,
    Kind,
    Snapshotter,
    State,
    Usage,
    no_checkpoint,
    open_snapshotter,
    rootsync,
)
from snapcore.snapshots.flush import flush_store
from snapcore.snapshots.metastore import MetaStore

After = Callable[[str], MetaStore]


@pytest.fixture
def after(tmp_path: Path, census: None) -> Iterator[After]:
    """Open the root of `store` again, in the boot that a token stands for."""
    opened: list[MetaStore] = []

    def reopen(token: str) -> MetaStore:
        opened.append(MetaStore(str(tmp_path / "root"), token=token))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(rootsync, "syncfs", fail)


def states(store: MetaStore) -> Mapping[str, State]:
    return {info.name: info.state for info in store.walk((), "", 100).infos}


def test_nothing_is_dropped_while_the_system_stays_up(store: MetaStore, after: After) -> None:
    committed(store, "base")
    committed(store, "top", "base")
    assert states(after("t1")) == {"base": State.PENDING, "top": State.PENDING}


def test_what_was_not_flushed_is_dropped_by_the_next_boot(
    store: MetaStore, after: After, caplog: pytest.LogCaptureFixture
) -> None:
    committed(store, "base")
    flush_store(store)
    committed(store, "middle", "base")
    committed(store, "top", "middle")
    create(store, "mine", "base")
    assert states(after("t2")) == {"base": State.DURABLE, "mine": State.DURABLE}
    assert "dropped 2 snapshots, and 0 that others stand on" in caplog.text
    assert names(after("t3")) == ["base", "mine"]


@pytest.mark.parametrize("kind", [Kind.ACTIVE, Kind.VIEW])
def test_what_somebody_stands_on_is_broken_by_the_next_boot(
    store: MetaStore, after: After, kind: Kind
) -> None:
    committed(store, "base")
    committed(store, "top", "base")
    committed(store, "aside", "base")
    create(store, "user", "top", kind)
    again = after("t2")
    assert states(again) == {"base": State.BROKEN, "top": State.BROKEN, "user": State.DURABLE}
    with pytest.raises(DataLoss, match="broken"):
        again.stack("user")
    for parent in ("base", "top"):
        with pytest.raises(DataLoss, match="broken"):
            create(again, "new", parent)
    flush_store(again)
    assert states(again)["top"] is State.BROKEN


def test_the_directories_of_what_was_dropped_are_swept(tmp_path: Path, census: None) -> None:
    with closing(DiskStore(str(tmp_path), token="t1")) as disk:
        number = _made(disk, "base")
    with closing(DiskStore(str(tmp_path), token="t2")) as disk:
        assert Path(disk.path(number)).is_dir()
        assert disk.cleanup(no_checkpoint).directories == 1
        assert not Path(disk.path(number)).exists()


def test_a_broken_snapshot_is_rebuilt_in_its_place(tmp_path: Path, census: None) -> None:
    root = str(tmp_path)
    with closing(DiskStore(root, token="t1")) as disk:
        flushed = _made(disk, "base")
        disk.flush()
        old = _made(disk, "middle", "base", {"kept": "1", "mine": "old"})
        top = _made(disk, "top", "middle")
        with disk.creating(Kind.ACTIVE, "user", "top", {}):
            pass
    with closing(DiskStore(root, token="t2")) as disk:
        assert disk.records.stat("middle").state is State.BROKEN
        new = _made(disk, "middle", "base", {"mine": "new"})
        made = disk.records.stat("middle")
        assert (made.state, made.labels) == (State.PENDING, {"kept": "1", "mine": "new"})
        assert disk.records.stat("top").parent == "middle"
        with pytest.raises(DataLoss, match="'top'"):
            disk.records.stack("user")
        newer = _made(disk, "top", "middle")
        assert disk.records.stack("user").parents == (newer, new, flushed)
        assert disk.cleanup(no_checkpoint).directories == 2
        assert not any(Path(disk.path(number)).exists() for number in (old, top))
        assert disk.flush().made_durable == 2


def test_only_what_is_broken_and_stands_on_the_same_parent_is_replaced(
    store: MetaStore, after: After
) -> None:
    committed(store, "base")
    committed(store, "top", "base")
    create(store, "user", "top")
    again = after("t2")
    create(again, "other")
    with pytest.raises(AlreadyExists, match="'top'"):
        commit(again, "top", "other")
    with pytest.raises(NotFound, match="'missing'"):
        commit(again, "top", "missing")
    committed(again, "base")
    create(again, "more", "base")
    with pytest.raises(AlreadyExists, match="'base'"):
        commit(again, "base", "other")
    commit(again, "top", "other", parent="base")
    assert states(again)["top"] is State.PENDING


def test_nothing_is_replaced_below_what_may_be_mounted(store: MetaStore, failing: None) -> None:
    committed(store, "base")
    create(store, "user", "base")
    with pytest.raises(DataLoss):
        flush_store(store)
    create(store, "again")
    with pytest.raises(FailedPrecondition, match=r"'user'.*may be mounted"):
        commit(store, "base", "again")
    store.remove("user")
    commit(store, "base", "again")
    assert states(store) == {"base": State.PENDING}


def test_a_failed_sync_of_one_process_is_seen_by_the_others(
    store: MetaStore, after: After, failing: None
) -> None:
    committed(store, "base")
    other = after("t1")
    with pytest.raises(DataLoss):
        flush_store(store)
    assert states(other) == {"base": State.BROKEN}


def _made(
    disk: DiskStore, name: str, parent: str = "", labels: Mapping[str, str] | None = None
) -> int:
    with disk.creating(Kind.ACTIVE, f"making {name}", parent, {}) as draft:
        Path(draft.directory, "fs").mkdir()
    plan = disk.records.check_commit(name, f"making {name}", parent)
    disk.records.commit(plan, labels or {}, Usage(1, 2))
    return draft.id


# --- the facade -----------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count syncs instead of doing them."""
    done: list[int] = []
    monkeypatch.setattr(rootsync, "syncfs", done.append)
    return done


@pytest.fixture
def opened(tmp_path: Path, census: None) -> Iterator[Callable[[Durability], Snapshotter]]:
    snapshotters: list[Snapshotter] = []

    def native(durability: Durability) -> Snapshotter:
        root = str(tmp_path / "native")
        snapshotters.append(open_snapshotter("native", root, durability=durability))
        return snapshotters[-1]

    yield native
    for snapshotter in snapshotters:
        snapshotter.close()


def _commit(snapshotter: Snapshotter, name: str, parent: str = "") -> Info:
    snapshotter.prepare(f"making {name}", parent, passing=True)
    return snapshotter.commit(name, f"making {name}")


@pytest.mark.parametrize(
    ("durability", "state", "counts"),
    [
        (Durability.FLUSH, State.PENDING, (0, 1, 1)),
        (Durability.STRICT, State.DURABLE, (2, 2, 2)),
        (Durability.NONE, State.PENDING, (0, 0, 0)),
    ],
)
def test_when_commits_are_synced(
    opened: Callable[[Durability], Snapshotter],
    syncs: list[int],
    durability: Durability,
    state: State,
    counts: tuple[int, ...],
) -> None:
    snapshotter = opened(durability)
    assert not snapshotter.unflushed
    assert _commit(snapshotter, "base").state is state
    _commit(snapshotter, "top", "base")
    assert snapshotter.unflushed is (durability is Durability.FLUSH)
    seen = [len(syncs)]
    snapshotter.make_durable("top")
    seen.append(len(syncs))
    snapshotter.make_durable("top")
    seen.append(len(syncs))
    assert tuple(seen) == counts
    assert not snapshotter.unflushed
    snapshotter.flush()
    assert len(syncs) == counts[-1] + 1
    assert snapshotter.stat("base").state is State.DURABLE


def test_a_parent_is_on_disk_before_an_active_that_stays(
    opened: Callable[[Durability], Snapshotter], syncs: list[int]
) -> None:
    snapshotter = opened(Durability.FLUSH)
    _commit(snapshotter, "base")
    snapshotter.prepare("passing", "base", passing=True)
    snapshotter.view("view", "base")
    assert syncs == []
    snapshotter.prepare("mine", "base")
    assert snapshotter.stat("base").state is State.DURABLE
    snapshotter.prepare("other", "base")
    assert len(syncs) == 1
    with pytest.raises(NotFound, match="'missing'"):
        snapshotter.prepare("another", "missing")


def test_a_commit_of_another_process_is_made_durable_too(
    opened: Callable[[Durability], Snapshotter], syncs: list[int]
) -> None:
    _commit(opened(Durability.FLUSH), "base")
    snapshotter = opened(Durability.FLUSH)
    assert not snapshotter.unflushed
    snapshotter.make_durable("base")
    assert len(syncs) == 1


def test_after_a_failed_sync_nothing_is_committed_or_promised(
    opened: Callable[[Durability], Snapshotter], failing: None
) -> None:
    snapshotter = opened(Durability.FLUSH)
    snapshotter.prepare("making next")
    _commit(snapshotter, "base")
    with pytest.raises(DataLoss, match="did not reach the disk"):
        snapshotter.make_durable("base")
    with pytest.raises(DataLoss, match="earlier flush failed"):
        snapshotter.commit("next", "making next")
    with pytest.raises(DataLoss, match=r"'base'.*broken"):
        snapshotter.make_durable("base")
    assert snapshotter.stat("base").state is State.BROKEN
    other = opened(Durability.STRICT)
    with pytest.raises(DataLoss, match="did not reach the disk"):
        other.commit("next", "making next")
    assert other.stat("next").state is State.BROKEN
