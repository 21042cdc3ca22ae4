from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
)
from snapcore.locks import FileLock
from snapcore.mount import Mount, mount_all, unmount
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.schema import MIGRATIONS
from snapcore.snapshots.token import instance_token
from snapcore.snapshots.types import Info, Kind, State, Usage


class Clock:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock, census: None) -> Iterator[MetaStore]:
    opened = MetaStore(str(tmp_path / "root"), clock=clock, token="t1")
    yield opened
    opened.close()


def create(
    store: MetaStore,
    key: str,
    parent: str = "",
    kind: Kind = Kind.ACTIVE,
    labels: dict[str, str] | None = None,
) -> int:
    return store.record(store.reserve(kind, key, parent, labels or {})).id


def commit(
    store: MetaStore,
    name: str,
    key: str,
    parent: str = "",
    labels: dict[str, str] | None = None,
    usage: Usage | None = None,
) -> Info:
    return store.commit(store.check_commit(name, key, parent), labels or {}, usage or Usage(1, 2))


def committed(store: MetaStore, name: str, parent: str = "") -> int:
    number = create(store, f"making {name}", parent)
    commit(store, name, f"making {name}")
    return number


def names(store: MetaStore, *filters: str) -> list[str]:
    return [info.name for info in store.walk(filters, "", 100).infos]


def test_root_and_database_are_private(store: MetaStore) -> None:
    assert stat.S_IMODE(os.stat(store.root).st_mode) == 0o700
    create(store, "a")
    for name in os.listdir(store.root):
        path = os.path.join(store.root, name)
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, name


def test_an_open_root_is_made_private(tmp_path: Path) -> None:
    root = tmp_path / "loose"
    root.mkdir(mode=0o755)
    MetaStore(str(root)).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_create_stat_and_stack(store: MetaStore) -> None:
    base = committed(store, "base")
    top = committed(store, "top", "base")
    key = create(store, "key", "top", labels={"a": "1", "empty": ""})
    info = store.stat("key")
    assert (info.kind, info.name, info.parent) == (Kind.ACTIVE, "key", "top")
    assert info.labels == {"a": "1"}
    assert info.created == info.updated > 1_000
    stack = store.stack("key")
    assert (stack.record.id, stack.parents) == (key, (top, base))
    assert store.stack("top", Kind.COMMITTED).parents == (base,)
    assert store.get("key").usage is None


def test_ids_are_never_reused(store: MetaStore) -> None:
    first = create(store, "a")
    store.remove("a")
    reservation = store.reserve(Kind.ACTIVE, "a", "", {})
    store.cancel(reservation)
    assert first < reservation.id < create(store, "a")


@pytest.mark.parametrize(
    ("parent", "key", "error"),
    [
        ("missing", "taken", NotFound),
        ("active", "taken", InvalidArgument),
        ("view", "taken", InvalidArgument),
        ("broken", "taken", DataLoss),
        ("above broken", "taken", DataLoss),
        ("good", "taken", AlreadyExists),
        ("good", "good", AlreadyExists),
        ("", "active", AlreadyExists),
        ("missing", "", InvalidArgument),
    ],
)
def test_creation_errors_in_their_order(
    store: MetaStore, parent: str, key: str, error: type[SnapcoreError]
) -> None:
    for name in ("good", "broken"):
        committed(store, name)
    committed(store, "above broken", "broken")
    create(store, "active")
    create(store, "view", "good", Kind.VIEW)
    create(store, "taken")
    store.mark_broken("broken")
    before = store.ids()
    with pytest.raises(error) as caught:
        store.reserve(Kind.ACTIVE, key, parent, {})
    assert type(caught.value) is error
    assert store.ids() == before


def test_creation_is_checked_again_when_recorded(store: MetaStore) -> None:
    committed(store, "base")
    reservations = [store.reserve(Kind.ACTIVE, "k", "base", {}) for _ in range(2)]
    store.record(reservations[0])
    with pytest.raises(AlreadyExists, match="'k'"):
        store.record(reservations[1])
    store.remove("k")
    store.remove("base")
    with pytest.raises(NotFound, match="'base'"):
        store.record(reservations[1])
    committed(store, "base")
    with pytest.raises(NotFound, match="replaced"):
        store.record(reservations[1])


def test_a_cancelled_reservation_cannot_be_recorded(store: MetaStore) -> None:
    reservation = store.reserve(Kind.VIEW, "k", "", {})
    assert store.ids().reserved.keys() == {reservation.id}
    store.cancel(reservation)
    store.cancel(reservation)
    with pytest.raises(NotFound, match="reservation"):
        store.record(reservation)
    assert not store.ids().reserved
    assert not store.ids().recorded


@pytest.mark.parametrize(
    "key",
    ["", "a\0b", "a\nb", "\x7f", "\x85", "\ud800", "x" * 4097, "é" * 2049],
    ids=["empty", "nul", "newline", "del", "c1", "surrogate", "long", "long in bytes"],
)
def test_malformed_keys(store: MetaStore, key: str) -> None:
    create(store, "good")
    with pytest.raises(InvalidArgument, match="bad snapshot key"):
        store.reserve(Kind.ACTIVE, key, "", {})
    with pytest.raises(InvalidArgument, match="bad snapshot name"):
        store.check_commit(key, "good")
    for call in (store.stat, store.remove, store.stack):
        with pytest.raises(NotFound):
            call(key)


@pytest.mark.parametrize("key", ["../../etc", "a/b", "sha256:aa bb", "x" * 4096, "é", "e\u0301"])
def test_unusual_keys_are_kept_as_they_are(store: MetaStore, key: str) -> None:
    create(store, key)
    assert names(store) == [key]


def test_stack_refuses_other_kinds(store: MetaStore) -> None:
    committed(store, "base")
    create(store, "view", "base", Kind.VIEW)
    with pytest.raises(FailedPrecondition, match="committed"):
        store.stack("base")
    with pytest.raises(FailedPrecondition, match="must be active"):
        store.stack("view", Kind.ACTIVE)


def test_nothing_is_mounted_above_a_broken_snapshot(store: MetaStore) -> None:
    committed(store, "base")
    committed(store, "top", "base")
    create(store, "key", "top")
    store.mark_broken("base")
    with pytest.raises(DataLoss, match="'base'"):
        store.stack("key")
    assert store.stat("base").state is State.BROKEN
    with pytest.raises(FailedPrecondition):
        store.mark_broken("key")


def test_commit_replaces_labels_and_stores_usage(store: MetaStore) -> None:
    committed(store, "base")
    number = create(store, "key", "base", labels={"old": "1"})
    made = store.stat("key")
    info = commit(store, "top", "key", labels={"new": "1"}, usage=Usage(3, 4096, 5))
    assert (info.kind, info.name, info.parent) == (Kind.COMMITTED, "top", "base")
    assert info.labels == {"new": "1"}
    assert info.created == info.updated > made.created
    assert info.state is State.PENDING
    record = store.get("top")
    assert (record.id, record.usage) == (number, Usage(3, 4096, 5))
    with pytest.raises(NotFound):
        store.stat("key")


@pytest.mark.parametrize(
    ("name", "key", "parent", "error"),
    [
        ("base", "missing", "missing", AlreadyExists),
        ("child", "missing", "missing", AlreadyExists),
        ("new", "missing", "missing", NotFound),
        ("new", "view", "missing", FailedPrecondition),
        ("new", "base", "missing", FailedPrecondition),
        ("new", "child", "missing", NotFound),
        ("new", "child", "orphan", FailedPrecondition),
        ("new", "child", "view", FailedPrecondition),
        ("new", "orphan", "orphan", FailedPrecondition),
        ("new", "child", "other", InvalidArgument),
        ("new", "orphan", "broken", DataLoss),
        ("new", "child", "broken", InvalidArgument),
        ("bad\n", "missing", "missing", InvalidArgument),
    ],
)
def test_commit_errors_in_their_order(
    store: MetaStore, name: str, key: str, parent: str, error: type[SnapcoreError]
) -> None:
    for each in ("base", "other", "broken"):
        committed(store, each)
    store.mark_broken("broken")
    create(store, "child", "base")
    create(store, "orphan")
    create(store, "view", "base", Kind.VIEW)
    before = store.walk((), "", 100)
    with pytest.raises(error) as caught:
        commit(store, name, key, parent)
    assert type(caught.value) is error
    assert store.walk((), "", 100) == before


def test_rebase(store: MetaStore) -> None:
    base = committed(store, "base")
    create(store, "orphan")
    create(store, "child", "base")
    assert commit(store, "rebased", "orphan", "base").parent == "base"
    assert store.stack("rebased", Kind.COMMITTED).parents == (base,)
    assert commit(store, "same", "child", "base").parent == "base"
    with pytest.raises(FailedPrecondition, match="'rebased'"):
        store.remove("base")


def test_commit_is_checked_again(store: MetaStore) -> None:
    create(store, "key")
    plan = store.check_commit("name", "key")
    store.remove("key")
    create(store, "key")
    with pytest.raises(NotFound, match="replaced"):
        store.commit(plan, {}, Usage())
    commit(store, "name", "key")
    create(store, "key")
    with pytest.raises(AlreadyExists):
        store.commit(plan, {}, Usage())


def test_remove(store: MetaStore) -> None:
    base = committed(store, "base")
    create(store, "key", "base")
    with pytest.raises(FailedPrecondition, match=r"'base'.*'key'"):
        store.remove("base")
    with pytest.raises(NotFound):
        store.remove("missing")
    assert store.remove("key").info.name == "key"
    record = store.remove("base")
    assert (record.id, record.info.kind) == (base, Kind.COMMITTED)
    assert names(store) == []


def test_update(store: MetaStore, clock: Clock) -> None:
    create(store, "k", labels={"a": "1", "b": "2", "c.d/e": "3"})
    created = store.stat("k").created

    def update(labels: dict[str, str], *paths: str) -> dict[str, str]:
        before = store.stat("k").updated
        info = store.update(Info(Kind.VIEW, "k", "ignored", labels), paths)
        assert info == store.stat("k")
        assert (info.kind, info.parent, info.created) == (Kind.ACTIVE, "", created)
        assert info.updated > before
        return dict(info.labels)

    assert update({"a": "x", "c.d/e": "", "z": "no"}, "labels.a", "labels.c.d/e") == {
        "a": "x",
        "b": "2",
    }
    assert update({"new": "1"}, "labels.a") == {"b": "2"}
    assert update({"new": "1", "gone": ""}) == {"new": "1"}
    clock.now = 5
    assert update({"other": "1"}, "labels") == {"other": "1"}


@pytest.mark.parametrize("path", ["parent", "kind", "labels.", "Labels", "label.a", ""])
def test_update_refuses_other_fields(store: MetaStore, path: str) -> None:
    create(store, "k", labels={"a": "1"})
    with pytest.raises(InvalidArgument, match="only 'labels'"):
        store.update(Info(Kind.ACTIVE, "k", labels={"a": "2"}), ("labels.a", path))
    assert store.stat("k").labels == {"a": "1"}
    with pytest.raises(NotFound):
        store.update(Info(Kind.ACTIVE, "missing"), (path,))


def test_labels_are_checked_everywhere(store: MetaStore) -> None:
    create(store, "k")
    for bad in ({"k": "v" * 4096}, {"": "v"}, {"k": "\ud800"}):
        with pytest.raises(InvalidArgument):
            store.reserve(Kind.ACTIVE, "new", "", bad)
        with pytest.raises(InvalidArgument):
            store.update(Info(Kind.ACTIVE, "k", labels=bad), ())
        with pytest.raises(InvalidArgument):
            store.commit(store.check_commit("name", "k"), bad, Usage())


def test_walk_pages_are_sorted_by_bytes(store: MetaStore) -> None:
    keys = ["a", "B", "é", "z", "\uffee", "\U0001f600", "a/b", "sha256:1"]
    for key in keys:
        create(store, key)
    found: list[str] = []
    while page := store.walk((), found[-1] if found else "", 3).infos:
        assert len(page) <= 3
        found += [info.name for info in page]
    assert found == sorted(keys, key=str.encode)


def test_walk_filters(store: MetaStore) -> None:
    committed(store, "base")
    create(store, "one", "base", labels={"x.y/z": "1"})
    create(store, "two", "base", Kind.VIEW)
    assert names(store, "kind==active", "kind==view") == ["one", "two"]
    assert names(store, "parent==base,kind!=view") == ["one"]
    assert names(store, 'labels."x.y/z"==1') == ["one"]
    assert names(store, "parent") == ["one", "two"]
    assert names(store, "name~=/^(base|two)$/") == ["base", "two"]
    with pytest.raises(InvalidArgument, match="nmae"):
        names(store, "nmae==one")
    with pytest.raises(InvalidArgument, match="at least 1"):
        store.walk((), "", 0)
    with pytest.raises(InvalidArgument, match="after"):
        store.walk((), "\ud800", 1)


def test_walk_filters_see_what_is_presented(store: MetaStore) -> None:
    create(store, "a")
    create(store, "b")
    page = store.walk(
        ("labels.id==2",),
        "",
        5,
        lambda record: Info(Kind.ACTIVE, record.info.name, labels={"id": str(record.id)}),
    )
    assert [info.name for info in page.infos] == ["b"]


def test_only_what_was_pending_before_the_sync_becomes_durable(store: MetaStore) -> None:
    committed(store, "a")
    before = store.pending()
    committed(store, "b")
    assert store.mark_durable(before) == 1
    assert [store.stat(name).state for name in "ab"] == [State.DURABLE, State.PENDING]
    assert store.mark_durable(before) == 0
    store.mark_broken("b")
    assert store.mark_durable(store.ids().recorded) == 0


def test_close_is_final_and_idempotent(tmp_path: Path, census: None) -> None:
    store = MetaStore(str(tmp_path))
    create(store, "a")
    assert os.listdir(tmp_path / "owner")
    assert store.close()
    assert not store.close()
    assert not os.listdir(tmp_path / "owner")
    with pytest.raises(FailedPrecondition, match="closed"):
        store.stat("a")
    with pytest.raises(FailedPrecondition, match="closed"):
        store.reserve(Kind.ACTIVE, "b", "", {})


def test_records_outlive_the_process(tmp_path: Path) -> None:
    store = MetaStore(str(tmp_path))
    committed(store, "a")
    store.close()
    again = MetaStore(str(tmp_path))
    assert names(again) == ["a"]
    again.close()


def test_an_owner_file_that_a_cleanup_snatched_is_made_anew(
    store: MetaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = FileLock.try_acquire
    failures = [False, False]

    def contended(lock: FileLock, *, shared: bool = False) -> bool:
        return failures.pop() if failures else acquire(lock, shared=shared)

    monkeypatch.setattr(FileLock, "try_acquire", contended)
    create(store, "k")
    assert not failures
    assert names(store) == ["k"]


@pytest.mark.needs_root
def test_a_root_that_cannot_be_written_is_read(tmp_path: Path, census: None) -> None:
    root, seen = tmp_path / "root", tmp_path / "seen"
    seen.mkdir()
    with contextlib.closing(MetaStore(str(root))) as store:
        committed(store, "base")
    mount_all([Mount("bind", str(root), options=("bind", "ro"))], str(seen))
    try:
        with contextlib.closing(MetaStore(str(seen))) as store:
            assert names(store) == ["base"]
            with pytest.raises(SnapcoreError):
                store.reserve(Kind.ACTIVE, "k", "", {})
            with pytest.raises(PermissionDenied):
                store.remove("base")
    finally:
        unmount(str(seen))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    MetaStore(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "metadata.db") as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database.close()
    with pytest.raises(FailedPrecondition, match="newer"):
        MetaStore(str(tmp_path))


def test_the_token_and_the_parent_id_are_stored(store: MetaStore) -> None:
    committed(store, "base")
    child = create(store, "child", "base")
    database = sqlite3.connect(f"file:{store.root}/metadata.db?mode=ro", uri=True)
    found = database.execute("SELECT token, parent FROM snapshots WHERE id = ?", (child,))
    assert found.fetchone() == ("t1", store.get("base").id)
    database.close()


def test_instance_token(tmp_path: Path) -> None:
    assert instance_token(str(tmp_path)) == instance_token(str(tmp_path))
    assert instance_token(str(tmp_path)) != instance_token("/proc")
    with pytest.raises(NotFound):
        instance_token(str(tmp_path / "missing"))


def _compete(root: str, number: int, results: multiprocessing.SimpleQueue[list[str]]) -> None:
    store = MetaStore(root)
    won: list[str] = []
    for turn in range(10):
        try:
            create(store, f"shared {turn}")
            won.append(f"shared {turn}")
        except AlreadyExists:
            pass
        create(store, f"own {number} {turn}")
        commit(store, f"done {number} {turn}", f"own {number} {turn}")
    store.close()
    results.put(won)


def test_processes_share_a_root(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[list[str]] = context.SimpleQueue()
    processes = [
        context.Process(target=_compete, args=(str(tmp_path), number, results))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    won = [key for _ in processes for key in results.get()]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(won) == [f"shared {turn}" for turn in range(10)]
    store = MetaStore(str(tmp_path))
    assert len(names(store, "kind==committed")) == 30
    store.close()
