"""Labels of blobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from snapcore.content import LabelStore
from snapcore.metadata import content_labels, open_metadata
from snapcore.oci import Digest

DIGEST: Final = Digest.of(b"blob")


@pytest.fixture
def labels(tmp_path: Path, census: None) -> Iterator[LabelStore]:
    opened = open_metadata(str(tmp_path))
    yield opened.labels
    opened.close()


def test_create_adds_to_what_is_there(labels: LabelStore) -> None:
    assert labels.get(DIGEST) is None
    first = labels.create(DIGEST, 4, {"a": "1", "b": "2", "none": ""})
    assert first.labels == {"a": "1", "b": "2"}
    assert first.created == first.updated > 0
    second = labels.create(DIGEST, 4, {"b": "3"})
    assert second.labels == {"a": "1", "b": "3"}
    assert second.created == first.created < second.updated
    assert labels.get(DIGEST) == second


def test_replace_and_change(labels: LabelStore) -> None:
    labels.create(DIGEST, 4, {"a": "1", "b": "2"})
    assert labels.change(DIGEST, {"a": "", "c": "3", "none": ""}).labels == {"b": "2", "c": "3"}
    assert labels.replace(DIGEST, {"d": "4", "e": ""}).labels == {"d": "4"}
    record = labels.get(DIGEST)
    assert record is not None
    assert record.labels == {"d": "4"}


def test_change_makes_a_record(labels: LabelStore) -> None:
    assert labels.change(DIGEST, {"a": "1"}).labels == {"a": "1"}
    other = Digest.of(b"other")
    assert labels.replace(other, {"a": "1"}).labels == {"a": "1"}


def test_delete_forgets_and_may_be_repeated(labels: LabelStore) -> None:
    labels.create(DIGEST, 4, {"a": "1"})
    labels.delete(DIGEST)
    labels.delete(DIGEST)
    assert labels.get(DIGEST) is None


def test_digests_are_sorted_over_pages(labels: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_labels, "_PAGE", 3)
    digests = [Digest.of(bytes([n])) for n in range(7)] + [Digest.of(b"", "sha512")]
    for digest in digests:
        labels.create(digest, 1, {})
    assert list(labels.digests()) == sorted(digests)


def test_concurrent_changes_are_all_kept(labels: LabelStore) -> None:
    def change(number: int) -> None:
        for step in range(5):
            labels.change(DIGEST, {f"{number}.{step}": "x"})

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = labels.get(DIGEST)
    assert record is not None
    assert len(record.labels) == 20
