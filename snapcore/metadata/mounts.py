"""What this node has mounted where: roots of the collector until they are unmounted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import apsw

from snapcore.errors import AlreadyExists, NotFound, from_os_error
from snapcore.linux import boot_id, mount_namespace
from snapcore.sqlite import Database

_COLUMNS: Final = "target, image, snapshotter, key, boot, namespace, rw, created"
_HERE: Final = "target = ? AND boot = ? AND namespace = ?"


@dataclass(frozen=True, slots=True)
class Place:
    """Where mounts made by this process can be seen.

    Attributes:
        boot: id of the boot.
        namespace: number of the mount namespace.
    """

    boot: str
    namespace: int

    @classmethod
    def here(cls) -> Place:
        """Return the place of this process.

        Raises:
            SnapcoreError: /proc cannot be read.
        """
        try:
            return cls(boot_id(), mount_namespace())
        except OSError as error:
            raise from_os_error(error, "this process's mount namespace") from error


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mounted image.

    Attributes:
        target: the directory, absolute and resolved.
        image: the image's name when it was mounted.
        snapshotter: who has the snapshot.
        key: the View, or with `rw` the Active snapshot, that is mounted.
        place: in another place the mount cannot be seen, in another boot it is gone.
        rw: whether it is writable.
        created: nanoseconds since the epoch.
    """

    target: str
    image: str
    snapshotter: str
    key: str
    place: Place
    rw: bool
    created: int


class MountStore:
    """The records of mounted images.

    A directory may have several: one that was unmounted behind our back keeps its record, and
    with it the way to its snapshot, until that is dealt with.

    Args:
        database: the node's.
        place: of this process; `get` and `delete` see only what was mounted there.
    """

    __slots__ = ("_database", "place")

    def __init__(self, database: Database, place: Place) -> None:
        self._database: Final = database
        self.place: Final = place

    def put(self, target: str, image: str, snapshotter: str, key: str, *, rw: bool) -> MountRecord:
        """Record a mount, before it is made.

        Raises:
            AlreadyExists: this snapshot's mount is recorded already.
        """
        record = MountRecord(target, image, snapshotter, key, self.place, rw, time.time_ns())
        values = (
            target, image, snapshotter, key, self.place.boot, self.place.namespace, int(rw),
            record.created,
        )  # fmt: skip
        try:
            with self._database.write() as connection:
                connection.execute(
                    f"INSERT INTO mounts ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608 (constant)
                    values,
                )
        except apsw.ConstraintError as error:
            raise AlreadyExists(
                f"snapshot {key!r} of {snapshotter!r} is recorded as mounted already"
            ) from error
        return record

    def get(self, target: str) -> MountRecord:
        """Return the newest record of a directory.

        Raises:
            NotFound: nothing is recorded there.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM mounts WHERE {_HERE} ORDER BY id DESC LIMIT 1",  # noqa: S608 (constant)
                (target, self.place.boot, self.place.namespace),
            )
            found = [_record(*row) for row in rows]
        if not found:
            raise NotFound(f"no image of this node is mounted at {target!r}")
        return found[0]

    def delete(self, target: str) -> None:
        """Forget the newest record of a directory.

        Raises:
            NotFound: nothing is recorded there.
        """
        with self._database.write() as connection:
            connection.execute(
                f"DELETE FROM mounts WHERE id = (SELECT max(id) FROM mounts WHERE {_HERE})",  # noqa: S608 (constant)
                (target, self.place.boot, self.place.namespace),
            )
            if not connection.changes():
                raise NotFound(f"no image of this node is mounted at {target!r}")

    def forget(self, record: MountRecord) -> None:
        """Forget one record, of whatever place; nothing happens if it is gone."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM mounts WHERE snapshotter = ? AND key = ?",
                (record.snapshotter, record.key),
            )

    def list(self) -> tuple[MountRecord, ...]:
        """Return all records, of all places, sorted by directory and age."""
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM mounts ORDER BY target, id")  # noqa: S608 (constant)
            return tuple(_record(*row) for row in rows)


def _record(
    target: str,
    image: str,
    snapshotter: str,
    key: str,
    boot: str,
    namespace: int,
    rw: int,
    created: int,
) -> MountRecord:
    return MountRecord(target, image, snapshotter, key, Place(boot, namespace), bool(rw), created)
