"""Leases: what somebody is about to use, so that the collector leaves it alone meanwhile.

The rule that makes it safe: who creates or reuses a thing writes it into its lease *before* it
looks whether the thing is there. The collector writes down what it *condemns* before it deletes,
and looks at the leases in that same transaction. One of the two comes first: either the
collector sees the lease, or `hold` sees the condemned row and its caller waits and looks again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import apsw

from snapcore import labels as label_rules
from snapcore.errors import AlreadyExists, InvalidArgument, NotFound
from snapcore.metadata.clock import Clock, Moment
from snapcore.metadata.columns import decode_texts, encode_texts, without_empty
from snapcore.sqlite import Database

CONTENT: Final = "content"
INGESTS: Final = "ingests"
IMAGES: Final = "images"
SNAPSHOTS: Final = "snapshots/"
"""Prefix; the snapshotter's name follows."""
_COLUMNS: Final = "id, owner, labels, created, wall, running, boot, lifetime"
_MAX_ID_BYTES: Final = 256

Alive: TypeAlias = Callable[[str], bool]
"""Tells whether the process that owns an owner id is alive."""


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """A thing that a lease holds.

    Attributes:
        kind: `content`, `ingests`, `images`, or `snapshots/<snapshotter>`.
        id: digest, ref, name, or key or name of a snapshot.
    """

    kind: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Parse `<kind>=<id>`.

        Raises:
            InvalidArgument: no such kind, or no id.
        """
        kind, equals, name = text.partition("=")
        snapshots = kind.startswith(SNAPSHOTS) and kind != SNAPSHOTS
        known = snapshots or kind in (CONTENT, INGESTS, IMAGES)
        if not (equals and name and known):
            raise InvalidArgument(
                f"not a resource: {text[:100]!r} (want content=, ingests=, images= or"
                " snapshots/<snapshotter>=, and an id)"
            )
        return cls(kind, name)


def snapshot(snapshotter: str, name: str) -> Resource:
    """Return a snapshot as a resource."""
    return Resource(SNAPSHOTS + snapshotter, name)


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise that things are needed.

    Attributes:
        id: its name.
        created: nanoseconds since the epoch.
        lifetime: nanoseconds that it lasts after its last renewal, or after the end of the
            process that owns it; None until it is deleted.
        renewed: when its lifetime began.
        owner: id of the process whose life keeps it, "" for none.
        labels: `containerd.io/gc.flat` and `gc.expire` mean something; see `snapcore.labels`.
    """

    id: str
    created: int
    lifetime: int | None
    renewed: Moment
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def expired(self, now: Moment, alive: Alive) -> bool:
        """Tell whether it is over: no owner lives, and its lifetime has passed."""
        if self.lifetime is None or now.since(self.renewed) <= self.lifetime:
            return False
        return not (self.owner and alive(self.owner))


class LeaseStore:
    """The leases of a node.

    Args:
        database: the node's.
        clock: what time it is.
        alive: tells whether an owner is alive.
    """

    __slots__ = ("_alive", "_clock", "_database")

    def __init__(self, database: Database, clock: Clock, alive: Alive) -> None:
        self._database: Final = database
        self._clock: Final = clock
        self._alive: Final = alive

    def create(
        self,
        name: str = "",
        *,
        lifetime: int | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str = "",
    ) -> Lease:
        """Make a lease that holds nothing yet.

        Args:
            name: its id; one is made up for "".
            lifetime: nanoseconds; None until it is deleted.
            labels: see `Lease.labels`.
            owner: id of a process; the lease cannot end before that process does.

        Raises:
            AlreadyExists: there is a lease of that name.
            InvalidArgument: the name or a label breaks a rule, or `lifetime` is not positive.
        """
        _check(name, lifetime)
        label_rules.check(labels or {})
        now = self._clock()
        name = name or f"lease-{uuid.uuid4().hex}"
        lease = Lease(name, now.wall, lifetime, now, owner, without_empty(labels or {}))
        try:
            with self._database.write() as connection:
                connection.execute(
                    f"INSERT INTO leases ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608 (constant)
                    _row(lease),
                )
        except apsw.ConstraintError as error:
            raise AlreadyExists(f"there is a lease {name!r} already") from error
        return lease

    def get(self, name: str) -> Lease:
        """Return a lease.

        Raises:
            NotFound: no such lease.
        """
        with self._database.read() as connection:
            found = _select(connection, "WHERE id = ?", (name,))
        if not found:
            raise _unknown(name)
        return found[0]

    def list(self) -> tuple[Lease, ...]:
        """Return all leases, also those that are over, sorted by id."""
        with self._database.read() as connection:
            return _select(connection, "ORDER BY id", ())

    def renew(self, name: str) -> Lease:
        """Begin the lifetime of a lease anew.

        Raises:
            NotFound: no such lease; it may have expired and been removed.
        """
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(
                "UPDATE leases SET wall = ?, running = ?, boot = ? WHERE id = ?",
                (now.wall, now.running, now.boot, name),
            )
            found = _select(connection, "WHERE id = ?", (name,))
        if not found:
            raise _unknown(name)
        return found[0]

    def delete(self, name: str) -> None:
        """Remove a lease; what it held is garbage unless something else needs it.

        Raises:
            NotFound: no such lease.
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (name,))
            if not connection.changes():
                raise _unknown(name)

    def hold(self, name: str, resources: Iterable[Resource]) -> tuple[Resource, ...]:
        """Write things into a lease, before looking whether they are there.

        Returns:
            Those that a collector is deleting at this moment: wait for them with
            `Condemned.wait`, and only then look.

        Raises:
            NotFound: no such lease.
        """
        wanted = tuple(resources)
        with self._database.write() as connection:
            if not _select(connection, "WHERE id = ?", (name,)):
                raise _unknown(name)
            connection.executemany(
                "INSERT OR IGNORE INTO lease_resources (lease, kind, id) VALUES (?,?,?)",
                [(name, resource.kind, resource.id) for resource in wanted],
            )
            return tuple(
                resource
                for resource in wanted
                if _exists(connection, "condemned WHERE kind = ? AND id = ?", resource)
            )

    def let_go(self, name: str, resources: Iterable[Resource]) -> None:
        """Take things out of a lease; what it does not hold is passed over."""
        with self._database.write() as connection:
            connection.executemany(
                "DELETE FROM lease_resources WHERE lease = ? AND kind = ? AND id = ?",
                [(name, resource.kind, resource.id) for resource in resources],
            )

    def resources(self, name: str) -> tuple[Resource, ...]:
        """Return what a lease holds, sorted.

        Raises:
            NotFound: no such lease.
        """
        self.get(name)
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT kind, id FROM lease_resources WHERE lease = ? ORDER BY kind, id", (name,)
            )
            return tuple(Resource(kind, identity) for kind, identity in rows)

    def live(self) -> tuple[tuple[Lease, tuple[Resource, ...]], ...]:
        """Return the leases that are not over, each with what it holds, from one moment."""
        now = self._clock()
        held: dict[str, list[Resource]] = {}
        with self._database.read() as connection:
            leases = _select(connection, "ORDER BY id", ())
            for lease, kind, identity in connection.execute(
                "SELECT lease, kind, id FROM lease_resources ORDER BY lease, kind, id"
            ):
                held.setdefault(lease, []).append(Resource(kind, identity))
        return tuple(
            (lease, tuple(held.get(lease.id, ())))
            for lease in leases
            if not lease.expired(now, self._alive)
        )

    def expire(self) -> tuple[Lease, ...]:
        """Remove the leases that are over, and return them.

        Those from an earlier boot that are not over are measured by this boot's clock from now
        on, so that a wall clock that is set later cannot end or prolong them.
        """
        now = self._clock()
        over = []
        with self._database.write() as connection:
            for lease in _select(connection, "ORDER BY id", ()):
                if lease.expired(now, self._alive):
                    connection.execute("DELETE FROM leases WHERE id = ?", (lease.id,))
                    over.append(lease)
                elif lease.lifetime is not None and lease.renewed.boot != now.boot:
                    rest = max(1, lease.lifetime - now.since(lease.renewed))
                    connection.execute(
                        "UPDATE leases SET lifetime = ?, wall = ?, running = ?, boot = ?"
                        " WHERE id = ?",
                        (rest, now.wall, now.running, now.boot, lease.id),
                    )
        return tuple(over)

    def holders(self, connection: apsw.Connection, resource: Resource) -> bool:
        """Tell, inside a transaction, whether a lease that is not over holds a thing."""
        now = self._clock()
        found = _select(
            connection,
            "WHERE id IN (SELECT lease FROM lease_resources WHERE kind = ? AND id = ?)",
            (resource.kind, resource.id),
        )
        return any(not lease.expired(now, self._alive) for lease in found)


def _select(connection: apsw.Connection, clause: str, values: Sequence[str]) -> tuple[Lease, ...]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM leases {clause}", tuple(values))  # noqa: S608 (constant)
    return tuple(_lease(*row) for row in rows)


def _exists(connection: apsw.Connection, clause: str, resource: Resource) -> bool:
    rows = connection.execute(f"SELECT 1 FROM {clause}", (resource.kind, resource.id))  # noqa: S608 (constant)
    return next(iter(rows), None) is not None


def _lease(
    name: str,
    owner: str,
    labels: str,
    created: int,
    wall: int,
    running: int,
    boot: str,
    lifetime: int | None,
) -> Lease:
    renewed = Moment(wall, running, boot)
    return Lease(name, created, lifetime, renewed, owner, decode_texts(labels, f"lease {name!r}"))


def _row(lease: Lease) -> tuple[str | int | None, ...]:
    return (
        lease.id,
        lease.owner,
        encode_texts(lease.labels),
        lease.created,
        lease.renewed.wall,
        lease.renewed.running,
        lease.renewed.boot,
        lease.lifetime,
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"no lease {name!r} on this node")


def _check(name: str, lifetime: int | None) -> None:
    if len(name.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES or not name.isprintable():
        raise InvalidArgument(
            f"not a lease id: {name[:60]!r} (want at most {_MAX_ID_BYTES} printable bytes)"
        )
    if lifetime is not None and lifetime <= 0:
        raise InvalidArgument(f"lease {name!r}: a lifetime of {lifetime} ns is none")
