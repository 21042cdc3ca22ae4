"""The shared way to open, migrate and write SQLite files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw
import pytest

from snapcore import sqlite
from snapcore.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from snapcore.sqlite import Database, open_database, schema_version

ONE: Final = ("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT",)
TWO: Final = (*ONE, "ALTER TABLE t ADD COLUMN y INTEGER NOT NULL DEFAULT 7")

pytestmark = pytest.mark.usefixtures("census")


def opened(root: Path, migrations: Sequence[str] = ONE) -> Database:
    return open_database(str(root / "a.db"), migrations, lock_path=str(root / "lock"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = opened(tmp_path)
    yield made
    made.close()


def insert(database: Database, *values: int) -> None:
    with database.write() as connection:
        for value in values:
            connection.execute("INSERT INTO t (x) VALUES (?)", (value,))


def insert_and_raise(database: Database, error: Exception) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO t (x) VALUES (1)")
        raise error


def rows(database: Database) -> list[tuple[int, ...]]:
    with database.read() as connection:
        return list(connection.execute("SELECT * FROM t ORDER BY x"))


def test_a_promise_is_written_through(database: Database) -> None:
    with database.read() as connection:
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("synchronous") == 2
        assert connection.pragma("foreign_keys") == 1


def test_an_exception_rolls_back(database: Database) -> None:
    with pytest.raises(AlreadyExists):
        insert_and_raise(database, AlreadyExists())
    insert(database, 2)
    assert rows(database) == [(2,)]


def test_a_read_sees_one_state(database: Database) -> None:
    with database.read() as connection:
        assert list(connection.execute("SELECT * FROM t")) == []
        insert(database, 1)
        assert list(connection.execute("SELECT * FROM t")) == []
    assert rows(database) == [(1,)]


def test_a_constraint_is_the_callers_to_explain(database: Database) -> None:
    insert(database, 1)
    with pytest.raises(apsw.ConstraintError):
        insert(database, 2, 1)
    assert rows(database) == [(1,)]


def test_threads_write_in_turn(database: Database) -> None:
    threads = [
        threading.Thread(target=insert, args=(database, *range(n * 10, n * 10 + 10)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(database)) == 80


def test_two_processes_open_a_fresh_database_at_once(tmp_path: Path) -> None:
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                mine = opened(tmp_path, TWO)
                insert(mine, number)
                mine.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    database = opened(tmp_path, TWO)
    assert rows(database) == [(n, 7) for n in range(4)]
    database.close()


def test_a_migration_keeps_rows_and_a_backup(tmp_path: Path) -> None:
    old = opened(tmp_path)
    insert(old, 1)
    old.close()
    new = opened(tmp_path, TWO)
    assert rows(new) == [(1, 7)]
    new.close()
    backup = tmp_path / "a.db.v1.bak"
    assert schema_version(str(backup)) == 1
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.partial"))


def test_a_migration_may_give_rows(tmp_path: Path) -> None:
    database = opened(tmp_path, ("SELECT 1; SELECT 2;" + ONE[0],))
    insert(database, 1)
    database.close()


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(apsw.SQLError):
        opened(tmp_path, (*TWO, "CREATE TABLE u (x); NONSENSE"))
    assert schema_version(str(tmp_path / "a.db")) == 1
    opened(tmp_path, TWO).close()
    with pytest.raises(FailedPrecondition, match="has schema 2, newer than this snapcore's 1"):
        opened(tmp_path)


def test_a_new_database_never_stays_at_an_early_schema(tmp_path: Path) -> None:
    with pytest.raises(apsw.SQLError):
        opened(tmp_path, (*ONE, "NONSENSE"))
    opened(tmp_path, TWO).close()
    assert not list(tmp_path.glob("*.bak"))


def test_nobody_migrates_below_others(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="must be migrated, but other processes keep it open"):
        opened(tmp_path, TWO)
    insert(database, 1)


def test_a_writer_that_takes_too_long_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    with database.write(), pytest.raises(Unavailable, match=r"a\.db' is busy"), database.write():
        pass


def test_another_process_that_takes_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    one, two = opened(tmp_path), opened(tmp_path)
    with one.write(), pytest.raises(Unavailable, match="locked by another process"), two.write():
        pass
    one.close()
    two.close()


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = opened(tmp_path)
    with database.read():
        assert database.close()
    assert not database.close()
    with pytest.raises(FailedPrecondition, match="is closed"):
        rows(database)


def test_a_forked_child_is_refused(database: Database) -> None:
    insert(database, 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            rows(database)
        except FailedPrecondition:
            database.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    insert(database, 2)
    assert len(rows(database)) == 2


def test_what_is_no_database_is_data_loss(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(DataLoss, match=r"a\.db"):
        opened(tmp_path)


def test_a_missing_file_has_no_version(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        schema_version(str(tmp_path / "none.db"))


def test_no_room_is_told_and_rolled_back(database: Database) -> None:
    with pytest.raises(ResourceExhausted):
        insert_and_raise(database, apsw.FullError())
    insert(database, 2)
    assert rows(database) == [(2,)]


def test_after_a_failed_write_nothing_more_is_written(database: Database) -> None:
    with pytest.raises(DataLoss), database.write():
        raise DataLoss("of a caller's own, which says nothing about the file")
    insert(database, 1)
    with pytest.raises(DataLoss, match="damaged"), database.write():
        raise apsw.IOError
    with pytest.raises(DataLoss, match="an earlier write"):
        insert(database, 2)
    assert rows(database) == [(1,)]
