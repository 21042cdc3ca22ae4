"""The checks of a MetaStore, in the order of errors that the contract fixes."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from snapcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from snapcore.snapshots import rows
from snapcore.snapshots.records import CommitPlan, Record
from snapcore.snapshots.remap import refuse_mapped
from snapcore.snapshots.types import Kind, State


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
        raise _taken(taken)
    return below


@dataclass(frozen=True, slots=True)
class Allowed:
    """A commit that may be carried out.

    Attributes:
        record: the active snapshot.
        parent: id of the new parent, None to keep the one it has.
        replaced: the broken snapshot whose place it takes, None for none.
    """

    record: Record
    parent: int | None
    replaced: Record | None


def commit(connection: apsw.Connection, plan: CommitPlan, token: str) -> Allowed:
    """Check a commit.

    Args:
        connection: in a transaction.
        plan: names, key and parent; its id is not looked at.
        token: of this instance.

    Raises:
        AlreadyExists: the name is taken.
        NotFound: no such key; or no such new parent.
        FailedPrecondition: the key is not Active, or was prepared with id maps; or the new parent
            is not Committed; or the name is that of a broken snapshot and what stands on it
            may be mounted.
        InvalidArgument: the snapshot has another parent.
        DataLoss: the new parent is broken.
    """
    key, parent = plan.key, plan.parent
    taken = rows.find(connection, plan.name)
    if taken is not None and taken.info.state is not State.BROKEN:
        raise _taken(taken)
    record = rows.require(connection, key)
    if record.info.kind is not Kind.ACTIVE:
        raise FailedPrecondition(
            f"snapshot {key!r} is {record.info.kind}; only an active one can be committed"
        )
    refuse_mapped(record.info)
    if taken is not None:
        _replacement(connection, taken, parent or record.info.parent, token)
    if not parent:
        return Allowed(record, None, taken)
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
    return Allowed(record, base.id, taken)


def _replacement(connection: apsw.Connection, broken: Record, parent: str, token: str) -> None:
    """Check that a broken snapshot can be replaced by one with this parent."""
    if parent != broken.info.parent:
        raise _taken(broken)
    user = rows.any_user(connection, broken.id)
    # Broken since before this boot: nobody could mount it, or what stands on it, since then.
    if user is not None and rows.token(connection, broken.id) == token:
        raise FailedPrecondition(
            f"snapshot {broken.info.name!r} is broken and cannot be rebuilt now, since {user!r},"
            " which stands on it, may be mounted; remove that first, or restart the machine"
        )


def _taken(by: Record) -> AlreadyExists:
    return AlreadyExists(f"snapshot {by.info.name!r} exists already ({by.info.kind})")
