"""Labels of blobs (`snapcore.content.LabelStore`) in the node database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

import apsw

from snapcore.content import LabelRecord
from snapcore.labels import GC_BREF, GC_REF_CONTENT
from snapcore.metadata.columns import decode_texts, encode_texts, without_empty
from snapcore.oci import Digest
from snapcore.sqlite import Database

_PAGE: Final = 500


class ContentLabels:
    """The label store of a node. A label with an empty value is not stored."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    def get(self, digest: Digest) -> LabelRecord | None:
        """Return the record of a blob, None if there is none.

        Raises:
            DataLoss: the row is damaged.
        """
        with self._database.read() as connection:
            return _select(connection, digest)

    def is_named(self, digest: Digest) -> bool:
        """Tell whether an image means a blob, or a label of the collector names it.

        Also if the blob's own labels name who keeps it. Other labels keep nothing: that of an
        uncompressed layer's diff ID, say, which is its own digest.
        """
        name = str(digest)
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT 1 FROM images WHERE digest = ?1"
                " UNION ALL SELECT 1 FROM content WHERE digest = ?1 AND instr(labels, ?2)",
                (name, GC_BREF),
            ).fetchone()
            rows = connection.execute(
                "SELECT labels FROM content WHERE instr(labels, ?1)"
                " UNION ALL SELECT labels FROM images WHERE instr(labels, ?1)",
                (name,),
            ).fetchall()
        return found is not None or any(
            name in value and key.startswith(GC_REF_CONTENT)
            for (labels,) in rows
            for key, value in decode_texts(str(labels), f"labels that name {name}").items()
        )

    def create(self, digest: Digest, size: int, labels: Mapping[str, str]) -> LabelRecord:
        """Record a new blob; if there is a record, add these labels to it and keep the rest.

        Args:
            digest: the blob.
            size: its bytes.
            labels: checked by the caller (`snapcore.labels.check`).
        """
        with self._database.write() as connection:
            return _put(connection, digest, labels, size=size, keep=True)

    def replace(self, digest: Digest, labels: Mapping[str, str]) -> LabelRecord:
        """Replace all labels."""
        with self._database.write() as connection:
            return _put(connection, digest, labels, size=None, keep=False)

    def change(self, digest: Digest, changes: Mapping[str, str]) -> LabelRecord:
        """Set single labels, in one transaction; an empty value deletes."""
        with self._database.write() as connection:
            return _put(connection, digest, changes, size=None, keep=True)

    def delete(self, digest: Digest) -> None:
        """Forget a blob; nothing happens if it is unknown."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM content WHERE digest = ?", (str(digest),))

    def digests(self) -> Iterator[Digest]:
        """Yield every digest that has a record, sorted; no transaction stays open meanwhile."""
        after = ""
        while page := self._page(after):
            yield from (Digest.parse(text) for text in page)
            after = page[-1]

    def _page(self, after: str) -> list[str]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT digest FROM content WHERE digest > ? ORDER BY digest LIMIT ?",
                (after, _PAGE),
            )
            return [str(digest) for (digest,) in rows]


def _select(connection: apsw.Connection, digest: Digest) -> LabelRecord | None:
    rows = connection.execute(
        "SELECT labels, created, updated FROM content WHERE digest = ?", (str(digest),)
    )
    for labels, created, updated in rows:
        return LabelRecord(decode_texts(labels, f"blob {digest}"), created, updated)
    return None


def _put(
    connection: apsw.Connection,
    digest: Digest,
    labels: Mapping[str, str],
    *,
    size: int | None,
    keep: bool,
) -> LabelRecord:
    """Write a row: these labels over those it has (`keep`), or in their place."""
    old, now = _select(connection, digest), time.time_ns()
    kept = old.labels if old and keep else {}
    record = LabelRecord(without_empty({**kept, **labels}), old.created if old else now, now)
    connection.execute(
        """INSERT INTO content (digest, size, labels, created, updated) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (digest) DO UPDATE SET size = coalesce(excluded.size, size),
        labels = excluded.labels, updated = excluded.updated""",
        (str(digest), size, encode_texts(record.labels), record.created, record.updated),
    )
    return record
