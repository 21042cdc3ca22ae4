"""Records of snapshots: keys, kinds, parents, labels, usage and walks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support.metastores import Clock, commit, committed, create, names

from snapcore.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SnapcoreError,
)
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.types import Info, Kind, State, Usage


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
    store.mark_durable([committed(store, "top", "base")])
    create(store, "key", "top")
    assert store.break_pending() == 1
    with pytest.raises(DataLoss, match="'base'"):
        store.stack("key")
    assert store.stat("base").state is State.BROKEN


def test_only_what_nobody_may_see_is_taken_out_of_use(store: MetaStore) -> None:
    committed(store, "base")
    committed(store, "top", "base")
    committed(store, "aside", "base")
    create(store, "key", "top", Kind.VIEW)
    for name in ("base", "top"):
        with pytest.raises(FailedPrecondition, match="'key', which stands on it"):
            store.mark_broken(name)
    with pytest.raises(FailedPrecondition, match="not committed"):
        store.mark_broken("key")
    with pytest.raises(NotFound):
        store.mark_broken("missing")
    assert store.mark_broken("aside").state is State.BROKEN
    store.remove("key")
    assert store.mark_broken("base").state is State.BROKEN


def test_what_is_taken_out_of_use_is_replaced_below_its_children(store: MetaStore) -> None:
    old = committed(store, "base")
    committed(store, "top", "base")
    store.mark_broken("base")
    new = committed(store, "base")
    assert new != old
    assert [store.stat(name).state for name in ("base", "top")] == [State.PENDING] * 2
    assert store.stack("top", Kind.COMMITTED).parents == (new,)


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
    # A parent of none is "" and not absent, as in containerd.
    assert names(store, "parent") == ["base", "one", "two"]
    assert names(store, 'parent==""') == ["base"]
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


def test_what_actives_and_views_stand_on(store: MetaStore) -> None:
    ids = {}
    for name, parent in (("a", ""), ("b", "a"), ("c", "a"), ("d", "c"), ("lone", "")):
        committed(store, name, parent)
        ids[name] = store.get(name).id
    assert store.bases() == frozenset()
    create(store, "work", "b")
    create(store, "seen", "a", Kind.VIEW)
    own = {store.get(key).id for key in ("work", "seen")}
    assert store.bases() == own | {ids["a"], ids["b"]}
    store.remove("work")
    store.remove("seen")
    assert store.bases() == frozenset()
