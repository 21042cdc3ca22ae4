"""Whatever step a process is killed at: a blob is whole or absent, an ingest resumable or gone."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from support.content import put_blob
from support.crash import killed_at

from snapcore.content import ContentStore
from snapcore.errors import AlreadyExists, NotFound
from snapcore.locks import Owner, remove_dead_owners
from snapcore.metadata import open_metadata
from snapcore.oci import Digest

DATA: Final = os.urandom(5000)
DIGEST: Final = Digest.of(DATA)
REF: Final = f"layer-{DIGEST}"


class Opened:
    """A content store with a real database, as one process has it."""

    def __init__(self, root: Path) -> None:
        self._metadata = open_metadata(str(root))
        self._owner = Owner(str(root))
        self.labels = self._metadata.labels
        self.store = ContentStore(
            str(root / "content"), self.labels, locks=str(root / "lock"), owner=self._owner
        )

    def close(self) -> None:
        self._metadata.close()
        self._owner.close()


def fill(store: ContentStore) -> None:
    with store.ingest(REF, total=len(DATA), expected=DIGEST) as ingest:
        for start in range(ingest.offset, len(DATA), 2500):
            ingest.write(DATA[start : start + 2500])
        ingest.commit(labels={"a": "b"})


def check_blob(store: ContentStore, root: Path) -> None:
    with store.reader(DIGEST) as reader:
        assert reader.read() == DATA
    path = root / "content/blobs" / DIGEST.algorithm / DIGEST.hex
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.usefixtures("census")
@pytest.mark.parametrize("before", [True, False])
def test_killed_writer_leaves_a_whole_blob_or_a_resumable_ingest(
    tmp_path: Path, before: bool
) -> None:
    def write_in_child() -> None:
        fill(Opened(tmp_path).store)

    resumed = 0
    for _ in killed_at(write_in_child, before=before):
        opened = Opened(tmp_path)
        store = opened.store
        assert all(status.offset <= len(DATA) for status in store.statuses())
        resumed += any(status.offset for status in store.statuses())
        store.cleanup()
        assert len(list(tmp_path.glob("content/ingest/*"))) == len(store.statuses())
        if store.exists(DIGEST):
            check_blob(store, tmp_path)
        with suppress(AlreadyExists):
            fill(store)
        check_blob(store, tmp_path)
        store.delete(DIGEST)
        with suppress(NotFound):
            store.abort(REF)
        assert not os.listdir(tmp_path / "content/ingest")
        assert sorted(os.listdir(tmp_path / "lock")) == ["root"]
        assert not list(opened.labels.digests())
        opened.close()
        remove_dead_owners(str(tmp_path))
    assert resumed >= 3


@pytest.mark.usefixtures("census")
@pytest.mark.parametrize("before", [True, False])
def test_killed_deletion_never_leaves_labels_without_a_blob(tmp_path: Path, before: bool) -> None:
    def delete_in_child() -> None:
        opened = Opened(tmp_path)
        put_blob(opened.store, DATA, {"a": "b"})
        opened.store.delete(DIGEST)

    halves = 0
    for _ in killed_at(delete_in_child, before=before):
        opened = Opened(tmp_path)
        record = opened.labels.get(DIGEST)
        if opened.store.exists(DIGEST):
            check_blob(opened.store, tmp_path)
            halves += record is None
            opened.store.delete(DIGEST)
        else:
            assert record is None
        for status in opened.store.statuses():
            opened.store.abort(status.ref)
        opened.close()
        remove_dead_owners(str(tmp_path))
    assert halves >= 1
