"""Statements and checks of a MetaStore, each inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import apsw
import msgspec

from snapcore.errors import DataLoss, InvalidArgument, NotFound
from snapcore.snapshots.keys import is_key
from snapcore.snapshots.records import Record, Reservation
from snapcore.snapshots.types import Info, Kind, State, Usage

_SELECT: Final = """
    SELECT s.id, s.key, s.kind, coalesce(p.key, ''), s.labels, s.created, s.updated,
           s.inodes, s.size, s.delta, s.state
    FROM snapshots AS s LEFT JOIN snapshots AS p ON p.id = s.parent
"""
_LINEAGE: Final = """
    WITH RECURSIVE line (depth, id, key, parent, state) AS (
        SELECT 0, id, key, parent, state FROM snapshots WHERE id = ?
        UNION ALL
        SELECT depth + 1, s.id, s.key, s.parent, s.state
        FROM snapshots AS s JOIN line ON s.id = line.parent
    )
    SELECT id, key, state FROM line ORDER BY depth
"""
_USERS: Final = """
    WITH RECURSIVE above (id, key, kind) AS (
        SELECT id, key, kind FROM snapshots WHERE parent = ?
        UNION ALL
        SELECT s.id, s.key, s.kind FROM snapshots AS s JOIN above ON s.parent = above.id
    )
    SELECT key FROM above WHERE kind <> 'committed' ORDER BY key LIMIT 1
"""
_BASES: Final = """
    WITH RECURSIVE below (id, parent) AS (
        SELECT id, parent FROM snapshots WHERE kind <> 'committed'
        UNION
        SELECT s.id, s.parent FROM snapshots AS s JOIN below ON s.id = below.parent
    )
    SELECT id FROM below
"""
_Row: TypeAlias = tuple[int, str, str, str, str, int, int, int | None, int | None, int | None, str]
_labels_decoder: Final = msgspec.json.Decoder(dict[str, str])
_labels_encoder: Final = msgspec.json.Encoder()


# --- looking --------------------------------------------------------------------------------


def find(connection: apsw.Connection, key: str) -> Record | None:
    """Return a snapshot's record, None if there is none."""
    if not is_key(key):
        return None
    row = connection.execute(f"{_SELECT} WHERE s.key = ?", (key,)).fetchone()
    return None if row is None else _record(row)


def require(connection: apsw.Connection, key: str) -> Record:
    """Return a snapshot's record.

    Raises:
        NotFound: there is none.
    """
    record = find(connection, key)
    if record is None:
        raise NotFound(f"no snapshot {key[:200]!r}")
    return record


def following(connection: apsw.Connection, after: str) -> Iterator[Record]:
    """Yield the records after a key, sorted by the keys' bytes.

    Raises:
        InvalidArgument: `after` can never have been a key.
    """
    if after and not is_key(after):
        raise InvalidArgument(f"a walk cannot continue after {after[:100]!r}: not a snapshot key")
    # Column collation BINARY compares the UTF-8 bytes (sqlite.org, datatype3.html §7).
    for row in connection.execute(f"{_SELECT} WHERE s.key > ? ORDER BY s.key", (after,)):
        yield _record(row)


def whole_lineage(connection: apsw.Connection, number: int) -> tuple[int, ...]:
    """Return an id and those of its parents, the nearest first.

    Raises:
        DataLoss: one of them is broken.
    """
    ids: list[int] = []
    for found, key, state in connection.execute(_LINEAGE, (number,)):
        if state == State.BROKEN:
            raise DataLoss(f"snapshot {key!r} is broken; pull its image again or repair it")
        ids.append(int(found))
    return tuple(ids)


def any_child(connection: apsw.Connection, number: int) -> str | None:
    """Return the key of one child, None if there is none."""
    row = connection.execute(
        "SELECT key FROM snapshots WHERE parent = ? ORDER BY key LIMIT 1", (number,)
    ).fetchone()
    return None if row is None else str(row[0])


def any_user(connection: apsw.Connection, number: int) -> str | None:
    """Return the key of one Active or View that stands on a snapshot, None if there is none."""
    row = connection.execute(_USERS, (number,)).fetchone()
    return None if row is None else str(row[0])


def bases(connection: apsw.Connection) -> frozenset[int]:
    """Return the ids of all Actives and Views, and of what they stand on."""
    return frozenset(int(number) for (number,) in connection.execute(_BASES))


def token(connection: apsw.Connection, number: int) -> str:
    """Return the instance token that a snapshot's row carries."""
    row = connection.execute("SELECT token FROM snapshots WHERE id = ?", (number,)).fetchone()
    return "" if row is None else str(row[0])


def ids(connection: apsw.Connection) -> tuple[frozenset[int], Mapping[int, str]]:
    """Return the ids of all snapshots, and those of all reservations with their owners."""
    recorded: set[int] = set()
    reserved: dict[int, str] = {}
    for number, owner in connection.execute("SELECT id, owner FROM snapshots"):
        if owner is None:
            recorded.add(number)
        else:
            reserved[number] = owner
    return frozenset(recorded), reserved


def with_state(connection: apsw.Connection, state: State) -> tuple[int, ...]:
    """Return the ids of snapshots in a state."""
    found = connection.execute("SELECT id FROM snapshots WHERE state = ? ORDER BY id", (state,))
    return tuple(int(row[0]) for row in found)


# --- changing -------------------------------------------------------------------------------


def insert_reservation(connection: apsw.Connection, owner: str, now: int, token: str) -> int:
    """Add a reservation and return its id."""
    connection.execute(
        "INSERT INTO snapshots (created, updated, owner, token, state) VALUES (?, ?, ?, ?, ?)",
        (now, now, owner, token, State.DURABLE),
    )
    return connection.last_insert_rowid()


def fulfil(
    connection: apsw.Connection, number: int, parents: tuple[int, ...], now: int, what: Reservation
) -> None:
    """Turn a reservation into a snapshot.

    Raises:
        NotFound: there is no such reservation.
    """
    connection.execute(
        """UPDATE snapshots SET key = ?, kind = ?, parent = ?, labels = ?, created = ?,
           updated = ?, owner = NULL WHERE id = ? AND owner IS NOT NULL""",
        (
            what.key,
            what.kind,
            parents[0] if parents else None,
            _labels_encoder.encode(what.labels).decode(),
            now,
            now,
            number,
        ),
    )
    if not connection.changes():
        raise NotFound(f"the reservation of snapshot {what.key!r} (id {number}) is gone; try again")


def delete_reservation(connection: apsw.Connection, number: int) -> bool:
    """Delete a reservation; say whether it was there."""
    connection.execute("DELETE FROM snapshots WHERE id = ? AND owner IS NOT NULL", (number,))
    return connection.changes() > 0


def set_labels(
    connection: apsw.Connection, number: int, labels: Mapping[str, str], updated: int
) -> None:
    """Replace the labels of a snapshot."""
    connection.execute(
        "UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?",
        (_labels_encoder.encode(labels).decode(), updated, number),
    )


def commit(
    connection: apsw.Connection,
    number: int,
    name: str,
    parent: int | None,
    labels: Mapping[str, str],
    usage: Usage,
    now: int,
    token: str,
) -> None:
    """Turn an active snapshot into a committed one that is not yet durable."""
    connection.execute(
        """UPDATE snapshots SET key = ?, kind = ?, parent = coalesce(?, parent), labels = ?,
           created = ?, updated = ?, inodes = ?, size = ?, delta = ?, token = ?, state = ?
           WHERE id = ?""",
        (
            name,
            Kind.COMMITTED,
            parent,
            _labels_encoder.encode(labels).decode(),
            now,
            now,
            usage.inodes,
            usage.size,
            usage.delta,
            token,
            State.PENDING,
            number,
        ),
    )


def replace(connection: apsw.Connection, old: int, new: int) -> None:
    """Delete a snapshot's row; its children stand on `new` from now on."""
    connection.execute("UPDATE snapshots SET parent = ? WHERE parent = ?", (new, old))
    delete(connection, old)


def delete(connection: apsw.Connection, number: int) -> None:
    """Delete a snapshot's row."""
    connection.execute("DELETE FROM snapshots WHERE id = ?", (number,))


def set_state(connection: apsw.Connection, number: int, old: State, new: State) -> bool:
    """Change a snapshot's state from `old` to `new`; say whether it was `old`."""
    connection.execute(
        "UPDATE snapshots SET state = ? WHERE id = ? AND state = ?", (new, number, old)
    )
    return connection.changes() > 0


def set_broken(connection: apsw.Connection, number: int, token: str) -> None:
    """Make a snapshot broken.

    Args:
        connection: in a write transaction.
        number: its id.
        token: of this instance, in which it may be mounted.
    """
    connection.execute(
        "UPDATE snapshots SET state = ?, token = ? WHERE id = ?", (State.BROKEN, token, number)
    )


def _record(row: _Row) -> Record:
    number, key, kind, parent, labels, created, updated, inodes, size, delta, state = row
    info = Info(
        kind=Kind(kind),
        name=key,
        parent=parent,
        labels=_labels_decoder.decode(labels),
        created=created,
        updated=updated,
        state=State(state),
    )
    usage = None if inodes is None or size is None else Usage(inodes, size, delta)
    return Record(number, info, usage)
