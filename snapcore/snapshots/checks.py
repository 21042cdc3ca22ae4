"""The checks of a MetaStore, in the order of errors that the contract fixes."""

from __future__ import annotations

import apsw

from snapcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from snapcore.snapshots import rows
from snapcore.snapshots.records import Record
from snapcore.snapshots.remap import refuse_mapped
from snapcore.snapshots.types import Kind


def creation(connection: apsw.Connection, key: str, parent: str) -> tuple[int, ...]:
    """Check that a key can be created on a parent; return the ids below, the nearest first.

    Raises:
        NotFound, InvalidArgument, DataLoss: the parent is missing, not Committed, broken.
        AlreadyExists: the key is taken.
    """
    below: tuple[int, ...] = ()
    if parent:
        base = rows.find(connection, parent)
        if base is None:
            raise NotFound(f"no parent {parent[:200]!r} for snapshot {key!r}")
        if base.info.kind is not Kind.COMMITTED:
            raise InvalidArgument(
                f"parent {parent!r} of snapshot {key!r} is {base.info.kind}; commit it first"
            )
        below = rows.whole_lineage(connection, base.id)
    taken = rows.find(connection, key)
    if taken is not None:
        raise AlreadyExists(f"snapshot {key!r} exists already ({taken.info.kind})")
    return below


def commit(
    connection: apsw.Connection, name: str, key: str, parent: str
) -> tuple[Record, int | None]:
    """Check a commit; return the active record and the id of the new parent, None to keep it.

    Raises:
        AlreadyExists: the name is taken.
        NotFound: no such key; or no such new parent.
        FailedPrecondition: the key is not Active, or was prepared with id maps; or the new parent
            is not Committed.
        InvalidArgument: the snapshot has another parent.
        DataLoss: the new parent is broken.
    """
    taken = rows.find(connection, name)
    if taken is not None:
        raise AlreadyExists(f"snapshot {name!r} exists already ({taken.info.kind})")
    record = rows.require(connection, key)
    if record.info.kind is not Kind.ACTIVE:
        raise FailedPrecondition(
            f"snapshot {key!r} is {record.info.kind}; only an active one can be committed"
        )
    refuse_mapped(record.info)
    if not parent:
        return record, None
    base = rows.find(connection, parent)
    if base is None:
        raise NotFound(f"no parent {parent[:200]!r} to commit {key!r} on")
    if base.info.kind is not Kind.COMMITTED:
        raise FailedPrecondition(f"parent {parent!r} is {base.info.kind}; commit it first")
    if record.info.parent not in ("", parent):
        raise InvalidArgument(
            f"snapshot {key!r} has parent {record.info.parent!r} and cannot be rebased"
            f" onto {parent!r}; only one without a parent can"
        )
    rows.whole_lineage(connection, base.id)
    return record, base.id
