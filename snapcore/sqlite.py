"""One SQLite file, shared by threads and processes: open, migrate, read, write.

Rules kept here, so that users need not know them (sqlite.org/wal.html, pragma.html):

- WAL with `synchronous=FULL`: a transaction that returned survives a power cut.
- Writers begin with `BEGIN IMMEDIATE` and wait for each other; a read never upgrades to a
  write, which is what fails under load. Transactions are short, with no file work inside.
- Any number of processes. A lock file is held shared while the database is open and
  exclusively while the schema changes, so nobody works on a schema that changes below him.
- Never used across fork(2): a child must open its own.
- After a failed commit to the medium nothing more is written: what the kernel dropped once it
  may report as written the next time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

import apsw

from snapcore.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    from_os_error,
)
from snapcore.faults import reach
from snapcore.locks import FileLock

_BUSY_SECONDS: Final = 30.0
_SPARE_CONNECTIONS: Final = 4
_POLL_SECONDS: Final = 0.02
_WRITING: Final = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
        apsw.SQLITE_IOERR_TRUNCATE,
    }
)
_ROOM_FOR_LOG: Final = 64 * 1024
"""Bytes below which a `-wal` and a `-shm` file may not find room (sqlite.org/walformat.html)."""


class Database:
    """An open database. Safe for any number of threads; each call uses a connection of its own.

    Made by `open_database`. The connections that `read` and `write` give are for SQL only and
    end with their `with` block. A constraint that fails leaves as `apsw.ConstraintError`, since
    only the caller knows what it means; everything else of apsw is mapped.

    Attributes:
        path: the database file.
        read_only: the file cannot be written by this process; `write` raises.
    """

    __slots__ = (
        "_failed", "_immutable", "_lock", "_open", "_pid", "_spare", "_spare_guard",
        "_writer", "path", "read_only",
    )  # fmt: skip

    def __init__(self, path: str, *, read_only: bool, lock: FileLock | None) -> None:
        self.path: Final = path
        self.read_only: Final = read_only
        # Without -wal nobody has the file open; then a read-only medium needs no -shm either.
        self._immutable = read_only and not os.path.exists(path + "-wal")
        self._lock = lock
        self._pid = os.getpid()
        self._spare: list[apsw.Connection] = []
        self._spare_guard = threading.Lock()
        self._writer = threading.Lock()
        self._open = True
        self._failed = False

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """Read from one consistent state of the database.

        Raises:
            FailedPrecondition: the database is closed, or this is a forked child.
            Unavailable: locked by somebody for too long.
            DataLoss: the file is damaged, or reading it failed.
        """
        with self._connection() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """Write in one transaction: all of it is on disk when the block ends, or none.

        Not reentrant. An exception in the block rolls back.

        Raises:
            PermissionDenied: the database is read-only for this process.
            Unavailable: another writer took too long.
            ResourceExhausted: the disk or quota is full.
            DataLoss: the file is damaged, or a write failed, now or earlier.
            FailedPrecondition: the database is closed, or this is a forked child.
        """
        if self.read_only:
            raise PermissionDenied(f"{self.path!r} cannot be written by this process")
        if self._failed:
            raise DataLoss(f"an earlier write to {self.path!r} failed; check the disk and reopen")
        if not self._writer.acquire(timeout=_BUSY_SECONDS):
            raise Unavailable(f"{self.path!r} is busy: a writer took over {_BUSY_SECONDS:.0f} s")
        try:
            with self._connection() as connection:
                try:
                    with _transaction(connection, "BEGIN IMMEDIATE"):
                        yield connection
                except apsw.IOError:
                    self._failed = True
                    raise
        finally:
            self._writer.release()

    def close(self) -> bool:
        """Close all idle connections; those in use close when their block ends.

        Returns:
            Whether it was open.
        """
        with self._spare_guard:
            was_open, self._open = self._open, False
            spare, self._spare = self._spare, []
        # A child's copies are left alone: closing them could checkpoint the parent's WAL.
        if was_open and os.getpid() == self._pid:
            for connection in spare:
                connection.close()
            if self._lock is not None:
                self._lock.release()
        return was_open

    @contextmanager
    def _connection(self) -> Iterator[apsw.Connection]:
        if os.getpid() != self._pid:
            raise FailedPrecondition(f"{self.path!r} was opened before fork; open it anew")
        with self._spare_guard:
            if not self._open:
                raise FailedPrecondition(f"{self.path!r} is closed")
            connection = self._spare.pop() if self._spare else None
        with _mapped(self.path):
            connection = connection or _connect(self.path, self.read_only, self._immutable)
            try:
                yield connection
            finally:
                self._put_back(connection)

    def _put_back(self, connection: apsw.Connection) -> None:
        with self._spare_guard:
            keep = self._open and len(self._spare) < _SPARE_CONNECTIONS
            if keep:
                self._spare.append(connection)
        if not keep:
            connection.close()


def open_database(path: str, migrations: Sequence[str], *, lock_path: str) -> Database:
    """Open a database and bring its schema up to date; create it if need be.

    Where directory or file cannot be written, it is opened read-only and without the lock.

    Args:
        path: the file; its directory exists.
        migrations: SQL scripts; the n-th brings schema n to n+1. Never edit one that was
            released, only append. Before an existing database is changed it is copied to
            `<path>.v<n>.bak`.
        lock_path: the lock file, shared while open, exclusive while migrating.

    Raises:
        FailedPrecondition: the schema is newer than `migrations`; or older, and read-only.
        NotFound: there is no database and none can be made.
        Unavailable: others keep the database open, so that it cannot be migrated.
        PermissionDenied, ResourceExhausted, DataLoss: as the medium says.
    """
    directory = os.path.dirname(os.path.abspath(path))
    target = path if os.path.exists(path) else directory
    if not (os.access(directory, os.W_OK) and os.access(target, os.W_OK)):
        return _open_read_only(path, len(migrations))
    lock = FileLock(lock_path)
    try:
        with _mapped(path):
            _lock_at_version(path, migrations, lock)
    except OSError as error:
        raise from_os_error(error, f"database {path!r}") from error
    return Database(path, read_only=False, lock=lock)


def library_version() -> str:
    """Return the version of the SQLite library in use."""
    return apsw.sqlite_lib_version()


def schema_version(path: str) -> int:
    """Return the number of the schema of an existing database.

    Raises:
        NotFound: no such file.
        DataLoss: it is no database.
    """
    if not os.path.exists(path):
        raise NotFound(f"no database at {path!r}")
    read_only = not os.access(path, os.W_OK)
    with _mapped(path):
        connection = _connect(path, read_only, read_only and not os.path.exists(path + "-wal"))
        try:
            return _version(connection)
        finally:
            connection.close()


def _open_read_only(path: str, newest: int) -> Database:
    if not os.path.exists(path):
        raise NotFound(f"no database at {path!r}, and its directory cannot be written")
    version = schema_version(path)
    if version != newest:
        _refuse_newer(path, version, newest)
        raise FailedPrecondition(
            f"{path!r} has schema {version}, this snapcore needs {newest};"
            " open it once where it can be written"
        )
    return Database(path, read_only=True, lock=None)


def _lock_at_version(path: str, migrations: Sequence[str], lock: FileLock) -> None:
    """Take `lock` shared, with the schema up to date; migrate whenever nobody else is in."""
    newest = len(migrations)
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        if lock.try_acquire(shared=True):
            try:
                version = schema_version(path) if os.path.exists(path) else 0
            except BaseException:
                lock.release()
                raise
            if version == newest:
                return
            lock.release()
            _refuse_newer(path, version, newest)
        # Tried anew each time: meanwhile another process may have migrated and stay in.
        if lock.try_acquire():
            try:
                _migrate(path, migrations)
            finally:
                lock.release()
        elif time.monotonic() > deadline:
            raise Unavailable(
                f"{path!r} must be migrated, but other processes keep it open"
                f" ({lock.path!r}); stop them first"
            )
        else:
            time.sleep(_POLL_SECONDS)


def _migrate(path: str, migrations: Sequence[str]) -> None:
    # Created by us, so that the database and its -wal, which takes over the mode, are private.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = _connect(path, read_only=False, immutable=False)
    try:
        version = _version(connection)
        _refuse_newer(path, version, len(migrations))
        if 0 < version < len(migrations):
            _back_up(connection, f"{path}.v{version}.bak")
        # All or nothing: a new database that stopped at an early schema would be backed up.
        with _transaction(connection, "BEGIN IMMEDIATE"):
            for script in migrations[version:]:
                _run(connection, script)
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
    finally:
        connection.close()
    _sync_directory(path)


def _back_up(connection: apsw.Connection, path: str) -> None:
    partial = path + ".partial"
    # VACUUM INTO wants no file or an empty one; this one has the right mode already.
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        connection.execute("VACUUM INTO ?", (partial,))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(partial, path)
    _sync_directory(path)


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_newer(path: str, version: int, newest: int) -> None:
    if version > newest:
        raise FailedPrecondition(
            f"{path!r} has schema {version}, newer than this snapcore's {newest}; upgrade snapcore"
        )


def _version(connection: apsw.Connection) -> int:
    (version,) = next(connection.execute("PRAGMA user_version"))
    return int(version)


def _connect(path: str, read_only: bool, immutable: bool) -> apsw.Connection:
    mode = "ro" if read_only else "rw"
    uri = f"file:{quote(os.path.abspath(path))}?mode={mode}{'&immutable=1' * immutable}"
    access = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(uri, flags=access | apsw.SQLITE_OPEN_URI)
    try:
        connection.set_busy_timeout(int(_BUSY_SECONDS * 1000))
        if not read_only:
            _run(connection, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        _run(connection, "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _run(connection: apsw.Connection, script: str) -> None:
    """Run all statements of a script; `execute` alone stops at the first that gives a row."""
    connection.execute(script).fetchall()


@contextmanager
def _transaction(connection: apsw.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        if begin != "BEGIN":
            reach("commit", connection.filename)
        connection.execute("COMMIT")
    finally:
        # SQLite has rolled back by itself after some failures, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise Unavailable(f"{path!r} is locked by another process: {error}") from error
    except (apsw.FullError, apsw.NoMemError) as error:
        raise ResourceExhausted(f"{path!r} has no room to write: {error}") from error
    except (apsw.CantOpenError, apsw.IOError) as error:
        raise _opening_or_io(path, error) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise PermissionDenied(f"{path!r} cannot be opened or written: {error}") from error
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise DataLoss(f"{path!r} is damaged or cannot be read: {error}") from error


def _opening_or_io(path: str, error: apsw.Error) -> SnapcoreError:
    """Return what an error means that SQLite gives for a full disk as well as for a broken one.

    That is so where it makes its `-wal` and `-shm` files or lengthens them.
    """
    status = os.statvfs(os.path.dirname(os.path.abspath(path)))
    no_inodes = status.f_files > 0 and status.f_favail == 0
    if no_inodes or status.f_bavail * status.f_frsize < _ROOM_FOR_LOG:
        return ResourceExhausted(f"{path!r} has no room to write: {error}")
    if isinstance(error, apsw.CantOpenError):
        return PermissionDenied(f"{path!r} cannot be opened or written: {error}")
    if getattr(error, "extendedresult", 0) in _WRITING:
        return DataLoss(
            f"what was written to {path!r} did not reach the disk: {error}; check the disk"
        )
    return DataLoss(f"{path!r} is damaged or cannot be read: {error}")
