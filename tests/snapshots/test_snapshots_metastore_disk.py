"""What a MetaStore keeps on disk, and across syncs, processes and schemas."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from support.metastores import commit, committed, create, names

from snapcore.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    SnapcoreError,
)
from snapcore.locks import FileLock
from snapcore.mount import Mount, mount_all, unmount
from snapcore.snapshots.metastore import MetaStore
from snapcore.snapshots.schema import MIGRATIONS
from snapcore.snapshots.token import instance_token
from snapcore.snapshots.types import Kind, State


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
