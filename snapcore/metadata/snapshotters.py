"""Which snapshotters have state below this root, so that none is forgotten by the collector."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import apsw
import msgspec

from snapcore.errors import DataLoss
from snapcore.sqlite import Database

OptionValue: TypeAlias = bool | int | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotterRecord:
    """A snapshotter that has been used below this root.

    Attributes:
        name: the plugin's name.
        options: with which it was opened last.
        created: nanoseconds since the epoch, of the first use.
        updated: nanoseconds since the epoch, of the last change of options.
    """

    name: str
    options: Mapping[str, OptionValue]
    created: int
    updated: int


class SnapshotterStore:
    """The records of the snapshotters of a node."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    def record(self, name: str, options: Mapping[str, OptionValue]) -> SnapshotterRecord:
        """Record that a snapshotter is used here; writes only what is new."""
        for known in self.list():
            if known.name == name and known.options == dict(options):
                return known
        now = time.time_ns()
        with self._database.write() as connection:
            connection.execute(
                """INSERT INTO snapshotters (name, options, created, updated) VALUES (?, ?, ?, ?)
                ON CONFLICT (name) DO UPDATE
                SET options = excluded.options, updated = excluded.updated""",
                (name, msgspec.json.encode(dict(options), order="sorted").decode(), now, now),
            )
            (record,) = _select(connection, "WHERE name = ?", (name,))
        return record

    def list(self) -> tuple[SnapshotterRecord, ...]:
        """Return all records, sorted by name.

        Raises:
            DataLoss: a row is damaged.
        """
        with self._database.read() as connection:
            return _select(connection, "ORDER BY name", ())


def _select(
    connection: apsw.Connection, clause: str, values: tuple[str, ...]
) -> tuple[SnapshotterRecord, ...]:
    rows = connection.execute(
        f"SELECT name, options, created, updated FROM snapshotters {clause}",  # noqa: S608 (constant)
        values,
    )
    return tuple(
        SnapshotterRecord(name, _options(name, options), created, updated)
        for name, options, created, updated in rows
    )


def _options(name: str, column: str) -> dict[str, OptionValue]:
    try:
        return msgspec.json.decode(column, type=dict[str, bool | int | str | tuple[str, ...]])
    except msgspec.DecodeError as error:
        raise DataLoss(
            f"snapshotter {name!r}: its row in the node database is damaged: {error}"
        ) from error
