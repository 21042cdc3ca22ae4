"""What becomes of commits that were not durable, inside a transaction that the caller holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from snapcore.snapshots.types import State

_CHILDLESS: Final = """
    DELETE FROM snapshots WHERE state = 'pending' AND token <> ?
    AND NOT EXISTS (SELECT 1 FROM snapshots AS child WHERE child.parent = snapshots.id)
"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was done about commits that a power cut has made doubtful.

    Attributes:
        dropped: how many are gone, as if they had never been committed.
        broken: how many somebody stands on, so that they stay, to be rebuilt.
    """

    dropped: int = 0
    broken: int = 0


def is_due(connection: apsw.Connection, token: str) -> bool:
    """Tell whether something was committed, and never flushed, under another token."""
    found = connection.execute(
        "SELECT 1 FROM snapshots WHERE state = ? AND token <> ? LIMIT 1", (State.PENDING, token)
    )
    return found.fetchone() is not None


def recover(connection: apsw.Connection, token: str) -> Recovery:
    """Drop what was pending under another token; what has children or users becomes broken.

    The broken ones keep the token that they have: nothing of this instance has mounted them.
    """
    dropped = 0
    while True:
        # Without the topmost, the next ones below them have no children any more.
        connection.execute(_CHILDLESS, (token,))
        if not connection.changes():
            break
        dropped += connection.changes()
    connection.execute(
        "UPDATE snapshots SET state = ? WHERE state = ? AND token <> ?",
        (State.BROKEN, State.PENDING, token),
    )
    return Recovery(dropped, connection.changes())


def break_pending(connection: apsw.Connection, token: str) -> int:
    """Make everything broken that is pending, after a sync that failed; return how many.

    Args:
        connection: in a write transaction.
        token: of this instance, in which they may be mounted.
    """
    connection.execute(
        "UPDATE snapshots SET state = ?, token = ? WHERE state = ?",
        (State.BROKEN, token, State.PENDING),
    )
    return connection.changes()
