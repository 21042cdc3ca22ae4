"""Looking at, labelling and deleting blobs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import content_store, put_blob

from snapcore.content import ContentStore, ContentUsage
from snapcore.errors import (
    DigestMismatch,
    InvalidArgument,
    NotFound,
    RefusedInput,
    Unavailable,
)
from snapcore.locks import Owner
from snapcore.oci import Descriptor, Digest

pytestmark = pytest.mark.usefixtures("census")
MISSING = Digest.of(b"missing")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    owner = Owner(str(tmp_path))
    yield content_store(str(tmp_path), owner)
    owner.close()


def path_of(root: Path, digest: Digest) -> Path:
    return root / "content/blobs" / digest.algorithm / digest.hex


def test_blobs_are_read_only_files_under_their_digest(store: ContentStore, tmp_path: Path) -> None:
    digest = put_blob(store, b"data")
    path = path_of(tmp_path, digest)
    assert path.read_bytes() == b"data"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_missing_blobs_are_not_found(store: ContentStore) -> None:
    assert not store.exists(MISSING)
    for call in (
        lambda: store.info(MISSING),
        lambda: store.open_blob(MISSING),
        lambda: store.reader(MISSING),
        lambda: store.update(MISSING, {"a": "b"}),
        lambda: store.delete(MISSING),
        lambda: store.read_blob(Descriptor("a/b", MISSING, 1), 10),
    ):
        with pytest.raises(NotFound, match=f"no blob {MISSING}"):
            call()


def test_an_empty_store_has_nothing(store: ContentStore) -> None:
    assert list(store.walk()) == []
    assert store.statuses() == ()
    assert store.cleanup() == 0
    assert store.usage() == ContentUsage()


def test_a_blob_without_a_record_has_no_labels_and_its_file_times(
    store: ContentStore, tmp_path: Path
) -> None:
    digest = put_blob(store, b"data", {"a": "b"})
    store._labels.delete(digest)
    info = store.info(digest)
    assert info.labels == {}
    assert info.created == info.updated == path_of(tmp_path, digest).stat().st_mtime_ns


def test_a_link_is_no_blob(store: ContentStore, tmp_path: Path) -> None:
    put_blob(store, b"data")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path_of(tmp_path, MISSING).symlink_to(secret)
    assert not store.exists(MISSING)
    assert len(list(store.walk())) == 1


def test_walk_is_sorted_and_goes_on_after_a_digest(store: ContentStore, tmp_path: Path) -> None:
    digests = sorted(put_blob(store, bytes([n])) for n in range(10))
    with store.ingest("long", expected=Digest.of(b"x", "sha512")) as ingest:
        ingest.write(b"x")
        digests.append(ingest.commit().digest)
    (tmp_path / "content/blobs/sha256/not-a-digest").touch()
    assert [info.digest for info in store.walk()] == digests
    assert [info.digest for info in store.walk(after=digests[3])] == digests[4:]
    assert list(store.walk(after=digests[-1])) == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (('labels."containerd.io/gc.root"',), {"a"}),
        (("size==3",), {"ccc"}),
        (("labels.kind==x", "size==3"), {"a", "ccc"}),
        (("labels.kind==x,size==3",), set()),
        (("labels.kind!=x",), {"bb", "ccc"}),
        ((f"digest=={Digest.of(b'bb')}",), {"bb"}),
        (("digest~=^sha512",), set()),
        ((), {"a", "bb", "ccc"}),
    ],
)
def test_walk_filters(store: ContentStore, filters: tuple[str, ...], found: set[str]) -> None:
    put_blob(store, b"a", {"containerd.io/gc.root": "1", "kind": "x"})
    put_blob(store, b"bb", {"kind": "y"})
    put_blob(store, b"ccc")
    assert {info.digest for info in store.walk(filters)} == {Digest.of(t.encode()) for t in found}


@pytest.mark.parametrize("bad", ["size=", "nosuch==1"])
def test_a_bad_filter_is_refused_before_the_first_blob(store: ContentStore, bad: str) -> None:
    with pytest.raises(InvalidArgument, match=bad):
        store.walk([bad])


@pytest.mark.parametrize(
    ("labels", "paths", "after"),
    [
        ({"c": "3"}, (), {"c": "3"}),
        ({"c": "3", "d": ""}, ("labels",), {"c": "3"}),
        ({}, (), {}),
        ({"a": "9", "b": "9"}, ("labels.a",), {"a": "9", "b": "2"}),
        ({"x.y/z": "9"}, ("labels.x.y/z",), {"a": "1", "b": "2", "x.y/z": "9"}),
        ({"a": ""}, ("labels.a",), {"b": "2"}),
        ({}, ("labels.a", "labels.none"), {"b": "2"}),
        ({"c": "3"}, ("labels.c", "labels"), {"c": "3"}),
    ],
)
def test_update(
    store: ContentStore, labels: dict[str, str], paths: tuple[str, ...], after: dict[str, str]
) -> None:
    digest = put_blob(store, b"data", {"a": "1", "b": "2"})
    before = store.info(digest)
    info = store.update(digest, labels, paths)
    assert info == store.info(digest)
    assert info.labels == after
    assert info.created == before.created
    assert info.updated > before.updated


@pytest.mark.parametrize("path", ["size", "labels.", "", "label.a", "labelsx"])
def test_only_labels_can_be_updated(store: ContentStore, path: str) -> None:
    digest = put_blob(store, b"data", {"a": "1"})
    with pytest.raises(InvalidArgument, match="cannot update field"):
        store.update(digest, {"a": "2"}, ("labels.a", path))
    assert store.info(digest).labels == {"a": "1"}


def test_label_sizes_are_checked(store: ContentStore) -> None:
    digest = put_blob(store, b"data")
    with pytest.raises(InvalidArgument, match="4097 bytes"):
        store.update(digest, {"k": "v" * 4096})


def test_deleting_leaves_readers_alone_and_forgets_labels(
    store: ContentStore, tmp_path: Path
) -> None:
    digest = put_blob(store, b"data", {"a": "b"})
    with store.reader(digest) as reader:
        store.delete(digest)
        assert reader.read() == b"data"
    assert not store.exists(digest)
    assert os.listdir(tmp_path / "lock") == []
    put_blob(store, b"data")
    assert store.info(digest).labels == {}


def test_who_holds_the_blob_lock_keeps_the_blob(store: ContentStore) -> None:
    digest = put_blob(store, b"data", {"a": "b"})
    lock = store.blob_lock(digest)
    assert lock.try_acquire()
    with pytest.raises(Unavailable, match=str(digest)):
        store.delete(digest)
    assert store.info(digest).labels == {"a": "b"}
    lock.release()
    store.delete(digest)


def test_a_downloader_commits_while_it_holds_the_blob_lock(store: ContentStore) -> None:
    lock = store.blob_lock(Digest.of(b"data"))
    assert lock.try_acquire()
    digest = put_blob(store, b"data")
    store.update(digest, {"a": "b"})
    lock.release()


def test_open_blob_is_read_only_and_close_on_exec(store: ContentStore) -> None:
    descriptor = store.open_blob(put_blob(store, b"data"))
    assert os.read(descriptor, 10) == b"data"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_read_blob(store: ContentStore, tmp_path: Path) -> None:
    digest = put_blob(store, b"data")
    assert store.read_blob(Descriptor("a/b", digest, 4), 4) == b"data"
    with pytest.raises(RefusedInput, match="at most 3"):
        store.read_blob(Descriptor("a/b", digest, 4), 3)
    with pytest.raises(DigestMismatch, match="its descriptor says 5"):
        store.read_blob(Descriptor("a/b", digest, 5), 10)
    path = path_of(tmp_path, digest)
    path.unlink()
    path.write_bytes(b"atad")
    with pytest.raises(DigestMismatch, match="the bytes have digest"):
        store.read_blob(Descriptor("a/b", digest, 4), 4)
    with pytest.raises(DigestMismatch), store.reader(digest):
        pass


def test_usage_counts_blobs_and_ingests(store: ContentStore) -> None:
    put_blob(store, b"1234")
    put_blob(store, b"56")
    with store.ingest("r") as ingest:
        ingest.write(b"789")
    assert store.usage() == ContentUsage(2, 6, 1, 3)


def test_a_deletion_goes_on_when_somebody_locks_in_what_goes(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ingest("ref").close()
    late: list[Path] = []
    rmdir = os.rmdir

    def rmdir_too_early(path: str) -> None:
        if not late:
            late.append(Path(path, "lock"))
            late[0].touch()
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", rmdir_too_early)
    store.abort("ref")
    assert late
    assert not late[0].parent.exists()


def test_cleanup_finishes_deletions(store: ContentStore, tmp_path: Path) -> None:
    store.ingest("kept").close()
    store.ingest("gone").close()
    (gone,) = (
        path.parent for path in tmp_path.glob("content/ingest/*/ref") if path.read_text() == "gone"
    )
    gone.rename(gone.parent / f"rm-{gone.name}-1")
    (tmp_path / "content/ingest/begun").mkdir()
    assert [status.ref for status in store.statuses()] == ["kept"]
    assert store.cleanup() == 2
    assert len(os.listdir(tmp_path / "content/ingest")) == 1
    assert store.cleanup() == 0
