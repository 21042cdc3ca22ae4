"""What a collector is about to delete, written down before it does; see `leases`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import apsw

from snapcore.labels import GC_ROOT
from snapcore.metadata.columns import decode_texts
from snapcore.metadata.leases import CONTENT, Alive, LeaseStore, Resource
from snapcore.sqlite import Database

_POLL_SECONDS: Final = 0.02


class CondemnedStore:
    """The condemned rows of a node.

    Args:
        database: the node's.
        leases: looked at again when something is condemned.
        alive: tells whether a collector, by its owner id, is alive.
    """

    __slots__ = ("_alive", "_database", "_leases")

    def __init__(self, database: Database, leases: LeaseStore, alive: Alive) -> None:
        self._database: Final = database
        self._leases: Final = leases
        self._alive: Final = alive

    def condemn(self, resources: Iterable[Resource], collector: str) -> tuple[Resource, ...]:
        """Condemn things that nobody needs, in one short transaction.

        Args:
            resources: what the mark did not reach.
            collector: owner id of who will delete them.

        Returns:
            Those that may be deleted now; the rest is leased, has become a root, or is being
            deleted by somebody else.
        """
        taken = []
        with self._database.write() as connection:
            for resource in resources:
                if self._leases.holders(connection, resource) or _is_root(connection, resource):
                    continue
                connection.execute(
                    "INSERT OR IGNORE INTO condemned (kind, id, collector, created)"
                    " VALUES (?,?,?,?)",
                    (resource.kind, resource.id, collector, time.time_ns()),
                )
                if connection.changes():
                    taken.append(resource)
        return tuple(taken)

    def release(self, resources: Sequence[Resource]) -> None:
        """Strike out rows: the things are deleted, or could not be."""
        if not resources:
            return
        with self._database.write() as connection:
            connection.executemany(
                "DELETE FROM condemned WHERE kind = ? AND id = ?",
                [(resource.kind, resource.id) for resource in resources],
            )

    def list(self) -> tuple[tuple[Resource, str], ...]:
        """Return all rows with their collectors, sorted."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT kind, id, collector FROM condemned ORDER BY kind, id")
            return tuple((Resource(kind, identity), owner) for kind, identity, owner in rows)

    def forget_dead(self) -> int:
        """Strike out the rows of dead collectors, and return how many there were."""
        dead = [resource for resource, owner in self.list() if not self._alive(owner)]
        self.release(dead)
        return len(dead)

    def wait(self, resources: Iterable[Resource], checkpoint: Callable[[], None]) -> None:
        """Wait until none of these is being deleted.

        Args:
            resources: what `LeaseStore.hold` returned.
            checkpoint: called again and again; what it raises ends the wait.
        """
        wanted = frozenset(resources)
        while pending := {r: owner for r, owner in self.list() if r in wanted}:
            dead = [resource for resource, owner in pending.items() if not self._alive(owner)]
            self.release(dead)
            if len(dead) < len(pending):
                checkpoint()
                time.sleep(_POLL_SECONDS)


def _is_root(connection: apsw.Connection, resource: Resource) -> bool:
    """Tell whether a blob has the label of a root, which it may have got since the mark."""
    if resource.kind != CONTENT:
        return False
    rows = connection.execute("SELECT labels FROM content WHERE digest = ?", (resource.id,))
    return any(GC_ROOT in decode_texts(labels, f"blob {resource.id}") for (labels,) in rows)
