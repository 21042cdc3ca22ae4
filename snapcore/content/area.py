"""The directory of unfinished blobs: who writes which, and how far each has come.

One directory a ref, which goes in one rename, so that it is whole or absent to everybody:

    lock     flock by the writer, for as long as it writes
    ref      the ref, as text
    record   JSON: what is expected, who writes, since when
    data     the bytes so far
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from snapcore.content.layout import (
    Layout,
    is_removed,
    listing,
    make_durable_directory,
    os_errors,
)
from snapcore.content.types import IngestStatus
from snapcore.errors import InvalidArgument, NotFound, SnapcoreError, Unavailable
from snapcore.linux import boot_id
from snapcore.locks import FileLock
from snapcore.oci import Digest

_TRIES: Final = 5


class _Record(msgspec.Struct, frozen=True):
    total: int
    expected: str
    started: int
    owner: str
    boot: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A locked ingest.

    Attributes:
        ref: the writer's name for it.
        directory: its directory.
        descriptor: of `data`, open for reading and appending.
        lock: held until it is released.
        size: bytes on disk when it was opened.
        total: bytes expected, 0 if unknown.
        expected: digest expected, None if unknown.
    """

    ref: str
    directory: str
    descriptor: int
    lock: FileLock
    size: int
    total: int
    expected: Digest | None

    @property
    def data(self) -> str:
        """The path of the bytes."""
        return os.path.join(self.directory, "data")


class Area:
    """All ingests of a content store.

    Args:
        layout: where they are.
        owner: id of this process, "" if it writes nothing.
    """

    __slots__ = ("_layout", "_owner")

    def __init__(self, layout: Layout, owner: str) -> None:
        self._layout: Final = layout
        self._owner: Final = owner

    def open(self, ref: str, total: int, expected: Digest | None) -> Opened:
        """Become the writer of a ref; resume what is there, unless it is something else.

        Raises:
            Unavailable: another writer has the ref.
            InvalidArgument: the ref is empty, or the total negative.
        """
        if total < 0:
            raise InvalidArgument(f"ingest {ref!r}: the total is negative: {total}")
        directory = self._layout.ingest(ref)
        with os_errors(f"ingest {ref!r} in {directory!r}"):
            make_durable_directory(self._layout.ingests)
            lock = self._lock(ref, directory)
            try:
                return self._resume(ref, directory, lock, total, expected)
            except BaseException:
                lock.release()
                raise

    def release(self, opened: Opened, *, keep: bool) -> None:
        """End a writer's work, and delete what it wrote unless it is to be kept."""
        try:
            if not keep:
                self._remove(opened.directory)
        finally:
            os.close(opened.descriptor)
            opened.lock.release()

    def quarantine(self, opened: Opened) -> str:
        """End a writer's work and set it aside, so that nobody resumes it or gets its blocks.

        Returns:
            Where it is now.
        """
        target = self._layout.quarantine(opened.directory, uuid.uuid4().hex)
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(opened.directory, target)
        finally:
            os.close(opened.descriptor)
            opened.lock.release()
        return target

    def abort(self, ref: str) -> None:
        """Delete an ingest that nobody writes.

        Raises:
            NotFound: no such ingest.
            Unavailable: somebody writes it.
        """
        directory = self._layout.ingest(ref)
        with os_errors(f"ingest {ref!r}"):
            if not os.path.isdir(directory):
                raise NotFound(f"no ingest {ref!r}")
            lock = self._lock(ref, directory)
            try:
                self._remove(directory)
            finally:
                lock.release()

    def status(self, ref: str) -> IngestStatus:
        """Return how far an ingest has come, whoever writes it.

        Raises:
            NotFound: no such ingest.
        """
        with os_errors(f"ingest {ref!r}"):
            status = _status(self._layout.ingest(ref))
        if status is None:
            raise NotFound(f"no ingest {ref!r}")
        return status

    def status_of(self, opened: Opened) -> IngestStatus:
        """Return how far an open ingest has come."""
        return self.status(opened.ref)

    def statuses(self) -> tuple[IngestStatus, ...]:
        """Return all ingests, sorted by ref; one that goes meanwhile is left out."""
        directory = self._layout.ingests
        with os_errors("ingests"):
            found = [
                _status(os.path.join(directory, name))
                for name in listing(directory)
                if not is_removed(name)
            ]
        return tuple(sorted((s for s in found if s is not None), key=lambda s: s.ref))

    def cleanup(self) -> int:
        """Finish deletions that a crash interrupted, and delete what nobody can resume.

        Safe at any time.

        Returns:
            How many directories are gone.
        """
        with os_errors("ingests"):
            return sum(self._clean(name) for name in listing(self._layout.ingests))

    def _clean(self, name: str) -> bool:
        directory = os.path.join(self._layout.ingests, name)
        if is_removed(name):
            _delete(directory)
            return True
        if _status(directory) is not None:
            return False
        lock = FileLock(os.path.join(directory, "lock"))
        with suppress(FileNotFoundError):
            if lock.try_acquire():
                try:
                    self._remove(directory)
                finally:
                    lock.release()
                return True
        return False

    def _lock(self, ref: str, directory: str) -> FileLock:
        # A few tries: the directory may be renamed away between making it and locking in it.
        for _ in range(_TRIES):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            lock = FileLock(os.path.join(directory, "lock"))
            with suppress(FileNotFoundError):
                if lock.try_acquire():
                    return lock
        raise Unavailable(f"ingest {ref!r} is being written by another process or thread")

    def _resume(
        self, ref: str, directory: str, lock: FileLock, total: int, expected: Digest | None
    ) -> Opened:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        data = os.path.join(directory, "data")
        with suppress(FileNotFoundError):
            # A commit that was interrupted has made it read-only.
            os.chmod(data, 0o600)
        descriptor = os.open(data, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            old, boot = _read(directory), boot_id()
            if old is not None and _resumable(old, size, total, expected, boot):
                total, started = total or old.total, old.started
                expected = expected or _digest(old.expected)
            else:
                # The bytes go before the record, which would otherwise promise them.
                os.ftruncate(descriptor, 0)
                size, started = 0, time.time_ns()
            record = _Record(total, str(expected or ""), started, self._owner, boot)
            _replace(directory, "ref", ref.encode())
            _replace(directory, "record", msgspec.json.encode(record))
        except BaseException:
            os.close(descriptor)
            raise
        return Opened(ref, directory, descriptor, lock, size, total, expected)

    def _remove(self, directory: str) -> None:
        removed = self._layout.removed(directory, uuid.uuid4().hex)
        os.rename(directory, removed)
        _delete(removed)


def _resumable(old: _Record, size: int, total: int, expected: Digest | None, boot: str) -> bool:
    if total and old.total and total != old.total:
        return False
    if expected and old.expected and str(expected) != old.expected:
        return False
    if size > (total or old.total or size):
        return False
    # A power cut may leave wrong bytes on disk; only a known digest would find them.
    return bool(expected or old.expected) or old.boot == boot


def _status(directory: str) -> IngestStatus | None:
    try:
        with open(os.path.join(directory, "ref"), encoding="utf-8") as file:
            ref = file.read()
        data = os.stat(os.path.join(directory, "data"))
    except FileNotFoundError:
        return None
    record = _read(directory)
    if record is None:
        return None
    return IngestStatus(
        ref=ref,
        offset=data.st_size,
        total=record.total,
        expected=_digest(record.expected),
        started=record.started,
        updated=data.st_mtime_ns,
        owner=record.owner,
    )


def _read(directory: str) -> _Record | None:
    """Read a record; None if there is none that makes sense, as after a crash."""
    try:
        with open(os.path.join(directory, "record"), "rb") as file:
            record = msgspec.json.decode(file.read(), type=_Record)
        _digest(record.expected)
    except (FileNotFoundError, msgspec.DecodeError, SnapcoreError):
        return None
    return record


def _digest(text: str) -> Digest | None:
    return Digest.parse(text) if text else None


def _replace(directory: str, name: str, content: bytes) -> None:
    path = os.path.join(directory, name)
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.rename(path + ".new", path)


def _delete(directory: str) -> None:
    gone = False
    with suppress(FileNotFoundError):
        while not gone:
            for name in listing(directory):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))
            gone = _is_deleted(directory)


def _is_deleted(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        # Whoever was about to lock in it when it was renamed has made the file by now.
        return False
    return True
