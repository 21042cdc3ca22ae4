"""The values of the content store, and what it asks of the label store beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from snapcore.oci import Digest


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """What is known of one blob.

    Attributes:
        digest: its name.
        size: bytes.
        created: nanoseconds since the epoch.
        updated: nanoseconds since the epoch, of the last label change.
        labels: see `snapcore.labels`.
    """

    digest: Digest
    size: int
    created: int = 0
    updated: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How far an unfinished blob has come.

    Attributes:
        ref: the writer's name for it, such as `layer-sha256:…`.
        offset: bytes on disk.
        total: bytes expected, 0 if unknown.
        expected: digest expected, None if unknown.
        started: nanoseconds since the epoch.
        updated: nanoseconds since the epoch, of the last write.
        owner: id of the process that wrote last (`snapcore.locks.Owner`).
    """

    ref: str
    offset: int
    total: int = 0
    expected: Digest | None = None
    started: int = 0
    updated: int = 0
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ContentUsage:
    """What a content store holds.

    Attributes:
        blobs: how many.
        blob_bytes: their lengths together.
        ingests: how many unfinished.
        ingest_bytes: their lengths together.
    """

    blobs: int = 0
    blob_bytes: int = 0
    ingests: int = 0
    ingest_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """The part of a ContentInfo that is kept in the node database."""

    labels: Mapping[str, str]
    created: int
    updated: int


class LabelStore(Protocol):
    """Where labels of blobs are kept. A blob without a record has no labels.

    The blob's file is the truth about existence; this is only what is said about it.
    """

    def get(self, digest: Digest) -> LabelRecord | None:
        """Return the record of a blob, None if there is none."""

    def create(self, digest: Digest, size: int, labels: Mapping[str, str]) -> LabelRecord:
        """Record a new blob; if there is a record, add these labels to it and keep the rest."""

    def replace(self, digest: Digest, labels: Mapping[str, str]) -> LabelRecord:
        """Replace all labels."""

    def change(self, digest: Digest, changes: Mapping[str, str]) -> LabelRecord:
        """Set single labels, in one transaction; an empty value deletes."""

    def delete(self, digest: Digest) -> None:
        """Forget a blob; nothing happens if it is unknown."""

    def digests(self) -> Iterator[Digest]:
        """Yield every digest that has a record, sorted."""
