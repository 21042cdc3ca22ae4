"""MetaStore: the bookkeeping that most backends need, offered to their authors.

Keys, kinds, parents, labels and usage in one SQLite file below the state root, with the rules
and the order of errors that `SnapshotterSpec` states. Everything is one short transaction;
nothing here touches a snapshot's files, and no author does file work inside a transaction:

    create   reserve (an id, under this process's name) -> make the directory -> record
    commit   check -> measure -> commit, which checks again
    remove   remove (the row is gone) -> delete the directory

`snapcore.snapshots.dirs` has the other half, the directories, and `DiskStore` joins both so that
the rituals cannot be got wrong. One instance may be used by many threads; one
root by many processes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from snapcore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    from_os_error,
)
from snapcore.filters import compile_filters
from snapcore.locks import Owner
from snapcore.snapshots import checks, recovery, rows
from snapcore.snapshots.keys import check_key, stored_labels, updated_labels
from snapcore.snapshots.records import (
    WALK_FIELDS,
    CommitPlan,
    Ids,
    Present,
    Record,
    Reservation,
    Stack,
    info_fields,
    info_of,
)
from snapcore.snapshots.remap import check_maps_kept
from snapcore.snapshots.rootsync import RootSync
from snapcore.snapshots.schema import MIGRATIONS
from snapcore.snapshots.token import instance_token
from snapcore.snapshots.types import Info, Kind, Labels, Page, State, Usage
from snapcore.sqlite import open_database

_OWNER_TRIES: Final = 5
_log = logging.getLogger(__name__)


class MetaStore:
    """The records of one snapshotter's state root.

    What was committed before the system went down, and was not flushed, is dropped by opening
    it, or is broken if other snapshots stand on it.

    Args:
        root: the state root; made with mode 0700 if it is missing.
        clock: wall clock in nanoseconds since the epoch.
        token: instance token to write; that of this boot and root if None.

    Attributes:
        root: absolute path of the state root.
        medium: its filesystem, to be synced.

    Raises:
        FailedPrecondition: a newer snapcore wrote the records.
        PermissionDenied, ResourceExhausted, DataLoss, Unavailable: the root cannot be used.
    """

    __slots__ = (
        "_clock", "_database", "_open", "_owner", "_owner_guard", "_token", "medium", "root",
    )  # fmt: skip

    def __init__(
        self, root: str, *, clock: Callable[[], int] = time.time_ns, token: str | None = None
    ) -> None:
        self.root: Final = os.path.abspath(root)
        self._clock = clock
        self._owner: Owner | None = None
        self._owner_guard = threading.Lock()
        self._open = True
        _make_private(self.root)
        self._token: Final = instance_token(self.root) if token is None else token
        self.medium: Final = RootSync(self.root)
        try:
            self._database = open_database(
                os.path.join(self.root, "metadata.db"),
                MIGRATIONS,
                lock_path=os.path.join(self.root, "metadata.lock"),
            )
            self._recover()
        except BaseException:
            self.medium.close()
            raise

    def close(self) -> bool:
        """Close the database and end this process's ownership; True if it was open."""
        with self._owner_guard:
            owner, self._owner = self._owner, None
            self._open = False
        if owner is not None:
            owner.close()
        self.medium.close()
        return self._database.close()

    # --- looking ----------------------------------------------------------------------------

    def get(self, key: str) -> Record:
        """Return the record of a snapshot of any kind.

        Raises:
            NotFound: no such key or name.
        """
        with self._database.read() as connection:
            return rows.require(connection, key)

    def stat(self, key: str) -> Info:
        """Return the info of a snapshot of any kind.

        Raises:
            NotFound: no such key or name.
        """
        return self.get(key).info

    def stack(self, key: str, *kinds: Kind) -> Stack:
        """Return a snapshot with its parents: what mounts and target are made of.

        Args:
            key: key or name.
            kinds: the kinds it may have; none means Active or View.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is of another kind.
            DataLoss: it, or a snapshot below it, is broken.
        """
        allowed = kinds or (Kind.ACTIVE, Kind.VIEW)
        with self._database.read() as connection:
            record = rows.require(connection, key)
            if record.info.kind not in allowed:
                raise FailedPrecondition(
                    f"snapshot {key!r} is {record.info.kind}, and must be {' or '.join(allowed)}"
                )
            return Stack(record, rows.whole_lineage(connection, record.id)[1:])

    def walk(
        self,
        filters: tuple[str, ...],
        after: str,
        limit: int,
        present: Present = info_of,
    ) -> Page:
        """Return the next page of snapshots; see `SnapshotterSpec.walk`.

        Args:
            filters: OR-ed filters.
            after: last name seen, excluded.
            limit: most infos in the page.
            present: makes the info that is filtered and answered; for a backend that adds
                labels of its own. It must be quick: a transaction is open.

        Raises:
            InvalidArgument: a filter does not parse, or the limit is not positive.
        """
        accept = compile_filters(filters, WALK_FIELDS)
        if limit < 1:
            raise InvalidArgument(f"a page of {limit} snapshots is no page; ask for at least 1")
        found: list[Info] = []
        with self._database.read() as connection:
            for record in rows.following(connection, after):
                info = present(record)
                if accept(info_fields(info)):
                    found.append(info)
                    if len(found) == limit:
                        break
        return Page(tuple(found))

    def ids(self) -> Ids:
        """Return every id in use. List directories *before* this, never after (see `sweep`)."""
        with self._database.read() as connection:
            return Ids(*rows.ids(connection))

    def bases(self) -> frozenset[int]:
        """Return the ids of all Actives and Views, and of the snapshots that they stand on."""
        with self._database.read() as connection:
            return rows.bases(connection)

    # --- creating ---------------------------------------------------------------------------

    def reserve(self, kind: Kind, key: str, parent: str, labels: Labels) -> Reservation:
        """Begin to create an Active or View: check everything and reserve an id.

        The key itself is not taken yet: of two that create it, the one recorded first wins.

        Raises:
            InvalidArgument: the key or a label is malformed; or the parent is not Committed.
            NotFound: no such parent.
            DataLoss: the parent, or a snapshot below it, is broken.
            AlreadyExists: the key is taken.
        """
        check_key(key)
        kept = stored_labels(labels)
        owner = self._own()
        with self._database.write() as connection:
            parents = checks.creation(connection, key, parent)
            new = rows.insert_reservation(connection, owner, self._clock(), self._token)
        return Reservation(new, kind, key, parent, parents, kept)

    def record(self, reservation: Reservation) -> Record:
        """End what `reserve` began: from now on the snapshot exists.

        Raises:
            NotFound: the parent is gone meanwhile; or the reservation is.
            DataLoss: the parent is broken meanwhile.
            AlreadyExists: the key was taken meanwhile.
        """
        with self._database.write() as connection:
            parents = checks.creation(connection, reservation.key, reservation.parent)
            if parents != reservation.parents:
                raise NotFound(
                    f"parent {reservation.parent!r} was replaced while snapshot"
                    f" {reservation.key!r} was made; try again"
                )
            rows.fulfil(connection, reservation.id, parents, self._clock(), reservation)
            return rows.require(connection, reservation.key)

    def cancel(self, reservation: Reservation) -> None:
        """Give a reserved id up; nothing happens if it is recorded or cancelled already."""
        self.drop_reservations((reservation.id,))

    def drop_reservations(self, reserved: Iterable[int]) -> int:
        """Delete reservations by id, as a cleanup does for dead owners; return how many."""
        with self._database.write() as connection:
            return sum(rows.delete_reservation(connection, number) for number in reserved)

    # --- changing ---------------------------------------------------------------------------

    def update(self, info: Info, fieldpaths: tuple[str, ...], present: Present = info_of) -> Info:
        """Change labels; see `SnapshotterSpec.update`, and `walk` for `present`.

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: a field path other than labels, or a malformed label; or the id maps
                of an Active or View would change.
        """
        with self._database.write() as connection:
            record = rows.require(connection, info.name)
            labels = updated_labels(record.info.labels, info, fieldpaths)
            check_maps_kept(record.info, labels)
            # Strictly later, even where the wall clock was set back.
            now = max(self._clock(), record.info.updated + 1)
            rows.set_labels(connection, record.id, labels, now)
            return present(rows.require(connection, info.name))

    def check_commit(self, name: str, key: str, parent: str = "") -> CommitPlan:
        """Begin a commit: check everything, so that the backend can measure usage for it.

        A broken snapshot of that name, with that parent, is no obstacle: it will be replaced.

        Raises:
            InvalidArgument: the name is malformed; or, rebasing, there is another parent.
            AlreadyExists: the name is taken.
            NotFound: no such key; or, rebasing, no such parent.
            FailedPrecondition: the key is not Active, or was prepared with id maps; or the new
                parent is not Committed; or the name is that of a broken snapshot whose children
                may be mounted.
            DataLoss: the new parent, or a snapshot below it, is broken.
        """
        check_key(name, "name")
        plan = CommitPlan(0, name, key, parent)
        with self._database.read() as connection:
            record = checks.commit(connection, plan, self._token).record
        return replace(plan, id=record.id)

    def commit(self, plan: CommitPlan, labels: Labels, usage: Usage) -> Info:
        """Carry a commit out: the key is gone, the name is there.

        It takes the place of a broken snapshot of that name: children and labels of that one
        pass to it in the same transaction; the old directory is left to `cleanup`.

        Args:
            plan: from `check_commit`.
            labels: replace those of the key.
            usage: what removal would free, measured since `check_commit`.

        Raises:
            SnapcoreError: as `check_commit`, which is repeated.
        """
        kept = stored_labels(labels)
        with self._database.write() as connection:
            allowed = checks.commit(connection, plan, self._token)
            if allowed.record.id != plan.id:
                raise NotFound(f"snapshot {plan.key!r} was replaced while it was committed")
            if allowed.replaced is not None:
                kept = {**allowed.replaced.info.labels, **kept}
                rows.replace(connection, allowed.replaced.id, plan.id)
            rows.commit(
                connection, plan.id, plan.name, allowed.parent, kept, usage, self._clock(),
                self._token,
            )  # fmt: skip
            return rows.require(connection, plan.name).info

    def remove(self, key: str) -> Record:
        """Delete a record; the caller deletes the directory of `Record.id` afterwards.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it has children.
        """
        with self._database.write() as connection:
            record = rows.require(connection, key)
            child = rows.any_child(connection, record.id)
            if child is not None:
                raise FailedPrecondition(
                    f"snapshot {key!r} has children, such as {child!r}; remove them first"
                )
            rows.delete(connection, record.id)
            return record

    # --- durability -------------------------------------------------------------------------

    def pending(self) -> tuple[int, ...]:
        """Return the ids of committed snapshots that are not yet durable."""
        with self._database.read() as connection:
            return rows.with_state(connection, State.PENDING)

    def mark_durable(self, pending: Iterable[int]) -> int:
        """Record that a sync, begun *after* `pending` was asked, went well; return how many."""
        with self._database.write() as connection:
            return sum(
                rows.set_state(connection, number, State.PENDING, State.DURABLE)
                for number in pending
            )

    def mark_broken(self, name: str, present: Present = info_of) -> Info:
        """Record that a committed snapshot's files are lost or damaged; see `walk` for `present`.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is not Committed; or what stands on it may be mounted.
        """
        with self._database.write() as connection:
            record = rows.require(connection, name)
            if record.info.kind is not Kind.COMMITTED:
                raise FailedPrecondition(f"snapshot {name!r} is {record.info.kind}, not committed")
            user = rows.any_user(connection, record.id)
            if user is not None:
                raise FailedPrecondition(
                    f"snapshot {name!r} cannot be taken out of use, since {user!r}, which stands"
                    " on it, may be mounted; remove that first"
                )
            rows.set_broken(connection, record.id, self._token)
            return present(rows.require(connection, name))

    def break_pending(self) -> int:
        """Record that a sync failed: all that was not durable is broken; return how many."""
        with self._database.write() as connection:
            return recovery.break_pending(connection, self._token)

    def _recover(self) -> None:
        if self._database.read_only:
            return
        with self._database.read() as connection:
            if not recovery.is_due(connection, self._token):
                return
        with self._database.write() as connection:
            done = recovery.recover(connection, self._token)
        _log.warning(
            "snapshot root %r: the system went down before everything was on disk; dropped %d"
            " snapshots, and %d that others stand on are broken until their image is pulled again",
            self.root, done.dropped, done.broken,
        )  # fmt: skip

    def _own(self) -> str:
        with self._owner_guard:
            if not self._open:
                raise FailedPrecondition(f"snapshot root {self.root!r} is closed")
            if self._owner is None:
                self._owner = _new_owner(self.root)
            return self._owner.id


def _new_owner(root: str) -> Owner:
    for _ in range(_OWNER_TRIES):
        # Unavailable: a cleanup found the new file before it was locked, and removes it.
        with suppress(Unavailable):
            try:
                return Owner(root)
            except OSError as error:
                raise from_os_error(error, f"snapshot root {root!r}") from error
    raise Unavailable(f"snapshot root {root!r}: no owner file could be made; try again")


def _make_private(root: str) -> None:
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        if os.stat(root).st_mode & 0o077 and os.access(root, os.W_OK):
            os.chmod(root, 0o700)
    except OSError as error:
        raise from_os_error(error, f"snapshot root {root!r}") from error
