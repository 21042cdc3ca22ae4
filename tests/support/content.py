"""Stand-ins for tests of the content store."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping

from snapcore.content import ContentStore, LabelRecord
from snapcore.locks import Owner
from snapcore.oci import Digest


class MemoryLabels:
    """A label store that forgets everything; its clock counts calls."""

    def __init__(self) -> None:
        self._records: dict[Digest, LabelRecord] = {}
        self._lock = threading.Lock()
        self._clock = itertools.count(1)

    def get(self, digest: Digest) -> LabelRecord | None:
        with self._lock:
            return self._records.get(digest)

    def create(self, digest: Digest, size: int, labels: Mapping[str, str]) -> LabelRecord:
        with self._lock:
            old = self._records.get(digest)
            return self._put(digest, {**(old.labels if old else {}), **labels})

    def replace(self, digest: Digest, labels: Mapping[str, str]) -> LabelRecord:
        with self._lock:
            return self._put(digest, labels)

    def change(self, digest: Digest, changes: Mapping[str, str]) -> LabelRecord:
        with self._lock:
            old = self._records.get(digest)
            return self._put(digest, {**(old.labels if old else {}), **changes})

    def delete(self, digest: Digest) -> None:
        with self._lock:
            self._records.pop(digest, None)

    def digests(self) -> Iterator[Digest]:
        with self._lock:
            found = sorted(self._records)
        return iter(found)

    def _put(self, digest: Digest, labels: Mapping[str, str]) -> LabelRecord:
        now, old = next(self._clock), self._records.get(digest)
        kept = {key: value for key, value in labels.items() if value}
        record = LabelRecord(kept, old.created if old else now, now)
        self._records[digest] = record
        return record


def content_store(root: str, owner: Owner | None = None) -> ContentStore:
    """Open a content store below `root`, with labels in memory."""
    locks = os.path.join(root, "lock")
    os.makedirs(locks, exist_ok=True)
    return ContentStore(
        os.path.join(root, "content"), MemoryLabels(), locks=locks, owner=owner or Owner(root)
    )


def put_blob(store: ContentStore, data: bytes, labels: Mapping[str, str] | None = None) -> Digest:
    """Store a blob and return its digest."""
    with store.ingest(f"put-{Digest.of(data)}") as ingest:
        ingest.write(data)
        return ingest.commit(labels=labels).digest
