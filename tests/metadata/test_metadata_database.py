"""Opening the node database: fresh, shared, newer, read-only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition, NotFound, PermissionDenied
from snapcore.locks import FileLock
from snapcore.metadata import Place, open_metadata
from snapcore.metadata.schema import MIGRATIONS
from snapcore.oci import Digest

pytestmark = pytest.mark.usefixtures("census")


def read_only_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the root look read-only, which to root only a mount would be."""
    real = os.access

    def access(path: str, mode: int) -> bool:
        return not (mode & os.W_OK and str(path).startswith(str(root))) and real(path, mode)

    monkeypatch.setattr(os, "access", access)


def test_it_is_private_and_holds_the_root_lock(tmp_path: Path) -> None:
    metadata = open_metadata(str(tmp_path))
    assert not metadata.read_only
    metadata.labels.create(Digest.of(b""), 0, {})
    for name in ("node.db", "node.db-wal", "lock/root"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name
    lock = FileLock(str(tmp_path / "lock/root"))
    assert not lock.try_acquire()
    other = open_metadata(str(tmp_path))
    assert metadata.close()
    assert not metadata.close()
    assert not lock.try_acquire()
    other.close()
    assert lock.try_acquire()
    lock.release()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    metadata = open_metadata(str(tmp_path))
    with metadata.database.write() as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    metadata.close()
    with pytest.raises(FailedPrecondition, match="; upgrade snapcore"):
        open_metadata(str(tmp_path))


def test_a_root_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest.of(b"")
    metadata = open_metadata(str(tmp_path))
    record = metadata.labels.create(digest, 0, {"a": "b"})
    metadata.close()
    read_only_root(tmp_path, monkeypatch)
    before = sorted(os.listdir(tmp_path))
    reading = open_metadata(str(tmp_path))
    assert reading.read_only
    assert reading.labels.get(digest) == record
    with pytest.raises(PermissionDenied, match="cannot be written"):
        reading.labels.delete(digest)
    assert sorted(os.listdir(tmp_path)) == before
    reading.close()


def test_nothing_is_made_where_nothing_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only_root(tmp_path, monkeypatch)
    with pytest.raises(NotFound, match="no database"):
        open_metadata(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_the_place_can_be_given(tmp_path: Path) -> None:
    metadata = open_metadata(str(tmp_path), place=Place("boot", 7))
    assert metadata.mounts.put("/a", "i", "s", "k", rw=False).place == Place("boot", 7)
    metadata.close()
