"""Writing blobs: resuming, refusing, and what is kept after failures."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.content import content_store, put_blob

from snapcore.content import ContentInfo, ContentStore, Ingest, area
from snapcore.errors import (
    AlreadyExists,
    DataLoss,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from snapcore.locks import Owner
from snapcore.oci import Digest

DATA: Final = os.urandom(10_000)
DIGEST: Final = Digest.of(DATA)

pytestmark = pytest.mark.usefixtures("census")


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path, owner: Owner) -> ContentStore:
    return content_store(str(tmp_path), owner)


def leave(store: ContentStore, count: int = 4000) -> None:
    """Leave an ingest with the first bytes of DATA."""
    with store.ingest("r", total=len(DATA), expected=DIGEST) as ingest:
        ingest.write(DATA[:count])


def finish(ingest: Ingest) -> ContentInfo:
    ingest.write(DATA[ingest.offset :])
    return ingest.commit()


def test_a_committed_blob_has_its_labels_and_no_ingest(store: ContentStore) -> None:
    with store.ingest("r") as ingest:
        assert ingest.write(DATA[:1]) == 1
        assert ingest.write(bytearray(DATA[1:5])) == 5
        assert ingest.write(memoryview(DATA)[5:]) == len(DATA)
        info = ingest.commit(size=len(DATA), expected=DIGEST, labels={"a": "b"})
    assert info == store.info(DIGEST)
    assert (info.digest, info.size, info.labels) == (DIGEST, len(DATA), {"a": "b"})
    assert store.statuses() == ()


def test_an_empty_blob_can_be_stored(store: ContentStore) -> None:
    with store.ingest("r", total=0) as ingest:
        assert ingest.commit(size=0).digest == Digest.of(b"")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_expected_digest_chooses_the_algorithm(store: ContentStore, algorithm: str) -> None:
    expected = Digest.of(DATA, algorithm)
    with store.ingest("begin", expected=expected) as ingest:
        assert finish(ingest).digest == expected
    store.delete(expected)
    with store.ingest("end") as ingest:
        ingest.write(DATA)
        assert ingest.commit(expected=expected).digest == expected


def test_closing_keeps_progress_and_status_tells_it(store: ContentStore, owner: Owner) -> None:
    leave(store)
    status = store.status("r")
    assert (status.ref, status.offset, status.total) == ("r", 4000, len(DATA))
    assert (status.expected, status.owner) == (DIGEST, owner.id)
    assert 0 < status.started <= status.updated
    with store.ingest("r") as ingest:
        assert ingest.status == status
        assert ingest.offset == 4000
        assert finish(ingest).digest == DIGEST


def test_resuming_hashes_what_is_on_disk(store: ContentStore, tmp_path: Path) -> None:
    leave(store)
    (data,) = tmp_path.glob("content/ingest/*/data")
    data.write_bytes(b"x" + data.read_bytes()[1:])
    with store.ingest("r") as ingest:
        ingest.write(DATA[ingest.offset :])
        with pytest.raises(DigestMismatch, match="the bytes are sha256:"):
            ingest.commit()
    assert store.statuses() == ()
    assert not store.exists(DIGEST)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        pytest.param(len(DATA) + 1, DIGEST, id="other-total"),
        pytest.param(len(DATA), Digest.of(b"other"), id="other-digest"),
    ],
)
def test_something_else_under_a_ref_starts_over(
    store: ContentStore, total: int, expected: Digest
) -> None:
    leave(store)
    with store.ingest("r", total=total, expected=expected) as ingest:
        assert ingest.offset == 0
        assert (ingest.status.total, ingest.status.expected) == (total, expected)


def test_more_bytes_on_disk_than_the_total_start_over(store: ContentStore) -> None:
    with store.ingest("r") as ingest:
        ingest.write(DATA)
    with store.ingest("r", total=5) as ingest:
        assert ingest.offset == 0


@pytest.mark.parametrize(("expected", "offset"), [(DIGEST, 9), (None, 0)])
def test_after_a_boot_only_a_known_digest_is_resumed(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, expected: Digest | None, offset: int
) -> None:
    with store.ingest("r", expected=expected) as ingest:
        ingest.write(b"x" * 9)
    monkeypatch.setattr(area, "boot_id", lambda: "another")
    with store.ingest("r") as ingest:
        assert ingest.offset == offset


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"total":1}'])
def test_a_damaged_record_starts_over(store: ContentStore, tmp_path: Path, damage: bytes) -> None:
    leave(store)
    (record,) = tmp_path.glob("content/ingest/*/record")
    record.write_bytes(damage)
    assert store.statuses() == ()
    with store.ingest("r") as ingest:
        assert ingest.offset == 0
        assert finish(ingest).digest == DIGEST


def test_one_writer_a_ref(store: ContentStore, tmp_path: Path) -> None:
    other_owner = Owner(str(tmp_path))
    other = content_store(str(tmp_path), other_owner)
    with store.ingest("r") as ingest:
        ingest.write(b"abc")
        with pytest.raises(Unavailable, match="ingest 'r' is being written"):
            other.ingest("r")
        with pytest.raises(Unavailable, match="ingest 'r' is being written"):
            other.abort("r")
        assert other.status("r").offset == 3
        other.ingest("another").close()
    other.ingest("r").close()
    other_owner.close()


def test_one_writer_a_ref_across_processes(store: ContentStore) -> None:
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        store.ingest("r")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(Unavailable):
        store.ingest("r")
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    store.ingest("r").close()
    for descriptor in (*ready, *go):
        os.close(descriptor)


def test_many_writers_of_one_blob_have_one_winner(store: ContentStore) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        with store.ingest(f"r{number}") as ingest:
            ingest.write(DATA)
            barrier.wait()
            try:
                ingest.commit(labels={f"label{number}": "x"})
                outcomes.append("won")
            except AlreadyExists:
                outcomes.append("lost")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]
    assert len(store.info(DIGEST).labels) == 1
    assert store.statuses() == ()


def test_what_is_there_already_is_said_at_once_or_at_commit(store: ContentStore) -> None:
    put_blob(store, DATA, {"kept": "1"})
    with pytest.raises(AlreadyExists, match=str(DIGEST)):
        store.ingest("r", expected=DIGEST)
    with store.ingest("r") as ingest:
        ingest.write(DATA)
        with pytest.raises(AlreadyExists, match=str(DIGEST)):
            ingest.commit(labels={"new": "1"})
    assert store.statuses() == ()
    assert store.info(DIGEST).labels == {"kept": "1"}


@pytest.mark.parametrize(
    ("size", "expected", "message"),
    [
        (len(DATA) - 1, DIGEST, "10000 bytes instead of 9999"),
        (len(DATA) + 1, DIGEST, "10000 bytes instead of 10001"),
        (None, Digest.of(b""), "the bytes are sha256:"),
    ],
)
def test_a_wrong_size_or_digest_ends_the_ingest(
    store: ContentStore, size: int | None, expected: Digest, message: str
) -> None:
    with store.ingest("r") as ingest:
        ingest.write(DATA)
        with pytest.raises(DigestMismatch, match=f"ingest 'r': {message}"):
            ingest.commit(size=size, expected=expected)
        with pytest.raises(FailedPrecondition, match="ingest 'r' is closed"):
            ingest.write(b"more")
    assert store.statuses() == ()
    assert list(store.walk()) == []


def test_a_short_blob_fails_by_the_total_alone(store: ContentStore) -> None:
    with store.ingest("r", total=10) as ingest:
        ingest.write(b"123")
        with pytest.raises(DigestMismatch, match="3 bytes instead of 10"):
            ingest.commit()


def test_more_than_the_total_is_never_written(store: ContentStore) -> None:
    with store.ingest("r", total=5) as ingest:
        ingest.write(b"123")
        with pytest.raises(DigestMismatch, match="more than the 5 bytes"):
            ingest.write(b"456")
    assert store.statuses() == ()


def test_bad_labels_leave_the_ingest_open(store: ContentStore) -> None:
    with store.ingest("r") as ingest:
        ingest.write(DATA)
        for labels in ({"k": "v" * 4096}, {"": "v"}, {"k": "\ud800"}):
            with pytest.raises(InvalidArgument):
                ingest.commit(labels=labels)
        assert ingest.commit(labels={"k": "v" * 4095}).size == len(DATA)


def test_truncating_begins_again(store: ContentStore) -> None:
    leave(store)
    with store.ingest("r") as ingest:
        ingest.truncate()
        assert ingest.offset == ingest.status.offset == 0
        assert finish(ingest).digest == DIGEST


def test_an_interrupted_commit_leaves_it_writable(store: ContentStore, tmp_path: Path) -> None:
    leave(store)
    (data,) = tmp_path.glob("content/ingest/*/data")
    data.chmod(0o444)
    with store.ingest("r") as ingest:
        assert stat.S_IMODE(data.stat().st_mode) == 0o600
        finish(ingest)


def test_cleanup_leaves_a_writer_alone(store: ContentStore, tmp_path: Path) -> None:
    with store.ingest("r") as ingest:
        (record,) = tmp_path.glob("content/ingest/*/record")
        record.unlink()
        assert store.cleanup() == 0
        assert finish(ingest).digest == DIGEST


def test_a_cancelled_resume_keeps_progress(store: ContentStore) -> None:
    leave(store)

    def cancelled() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ingest("r", checkpoint=cancelled)
    with store.ingest("r") as ingest:
        assert ingest.offset == 4000


def test_abort_forgets_and_says_what_is_unknown(store: ContentStore) -> None:
    leave(store)
    store.abort("r")
    for call in (store.abort, store.status):
        with pytest.raises(NotFound, match="no ingest 'r'"):
            call("r")
    with store.ingest("r") as ingest:
        assert ingest.offset == 0
        ingest.abort()
        ingest.abort()
    assert store.statuses() == ()


@pytest.mark.parametrize("ref", ["", "\ud800"])
def test_a_bad_ref_is_refused(store: ContentStore, ref: str) -> None:
    for call in (store.ingest, store.status, store.abort):
        with pytest.raises(InvalidArgument, match="ref"):
            call(ref)


def test_a_negative_total_is_refused(store: ContentStore) -> None:
    with pytest.raises(InvalidArgument, match="negative"):
        store.ingest("r", total=-1)


def test_any_text_is_a_ref(store: ContentStore) -> None:
    refs = ("../../etc", "a/b", "\n", "ü" * 3000)
    for ref in refs:
        store.ingest(ref).close()
    assert [status.ref for status in store.statuses()] == sorted(refs)


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, half: bool = False) -> None:
    """Make an `os` call fail, after doing half of it if it writes."""
    real = getattr(os, name)
    calls = 0

    def failing(descriptor: int, *arguments: bytes) -> int:
        nonlocal calls
        calls += 1
        if half and calls == 1:
            return int(real(descriptor, arguments[0][:1000]))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


def test_a_full_disk_keeps_what_fitted(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.ingest("r") as ingest, monkeypatch.context() as patch:
        fail(patch, "write", errno.ENOSPC, half=True)
        with pytest.raises(ResourceExhausted, match=r"ingest 'r' in '.*': No space left"):
            ingest.write(DATA)
    with store.ingest("r") as ingest:
        assert ingest.offset == 1000
        assert finish(ingest).digest == DIGEST


@pytest.mark.parametrize("name", ["write", "fsync", "preadv"])
def test_a_failing_medium_sets_the_ingest_aside(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def resume_on_failing_medium(patch: pytest.MonkeyPatch) -> None:
        if name == "preadv":
            fail(patch, name, errno.EIO)
        with store.ingest("r") as ingest:
            if name == "write":
                fail(patch, name, errno.EIO)
            ingest.write(DATA[ingest.offset :])
            fail(patch, name, errno.EIO)
            ingest.commit()

    leave(store)
    with monkeypatch.context() as patch, pytest.raises(DataLoss, match="set aside in"):
        resume_on_failing_medium(patch)
    assert store.statuses() == ()
    assert len(list(tmp_path.glob("content/quarantine/*/data"))) == 1
    assert not store.exists(DIGEST)
    with store.ingest("r") as ingest:
        assert ingest.offset == 0


def test_no_space_at_fsync_throws_the_ingest_away(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.ingest("r") as ingest, monkeypatch.context() as patch:
        ingest.write(DATA)
        fail(patch, "fsync", errno.ENOSPC)
        with pytest.raises(ResourceExhausted):
            ingest.commit()
    assert store.statuses() == ()


def test_a_directory_that_cannot_be_synced_gives_no_blob(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_blob(store, b"so that the directory exists")
    real = os.fsync

    def failing(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with store.ingest("r") as ingest, monkeypatch.context() as patch:
        ingest.write(DATA)
        patch.setattr(os, "fsync", failing)
        with pytest.raises(DataLoss, match=str(DIGEST)):
            ingest.commit()
    assert not store.exists(DIGEST)
    assert store.statuses() == ()


def test_a_store_open_for_reading_writes_nothing(store: ContentStore, tmp_path: Path) -> None:
    digest = put_blob(store, DATA)
    reading = ContentStore(
        str(tmp_path / "content"), store._labels, locks=str(tmp_path / "lock"), owner=None
    )
    with reading.reader(digest) as reader:
        assert reader.read() == DATA
    for call in (
        lambda: reading.ingest("r"),
        lambda: reading.delete(digest),
        lambda: reading.update(digest, {}),
        lambda: reading.abort("r"),
        lambda: reading.cleanup(),
    ):
        with pytest.raises(PermissionDenied, match="for reading only"):
            call()
