"""Opening a node's database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

from snapcore.errors import from_os_error
from snapcore.locks import owner_alive
from snapcore.metadata.clock import Clock, system_clock
from snapcore.metadata.condemned import CondemnedStore
from snapcore.metadata.content_labels import ContentLabels
from snapcore.metadata.images import ImageStore
from snapcore.metadata.leases import LeaseStore
from snapcore.metadata.mounts import MountStore, Place
from snapcore.metadata.schema import MIGRATIONS
from snapcore.metadata.snapshotters import SnapshotterStore
from snapcore.sqlite import Database, open_database


@dataclass(frozen=True, slots=True)
class Metadata:
    """The open database of a node, by what is kept in it. Safe for threads, not across fork.

    Attributes:
        database: the database itself.
        images: names and what they mean.
        labels: of blobs.
        mounts: images that are mounted.
        snapshotters: backends that have state here.
        leases: what somebody is about to use.
        condemned: what a collector is about to delete.
    """

    database: Database
    images: ImageStore
    labels: ContentLabels
    mounts: MountStore
    snapshotters: SnapshotterStore
    leases: LeaseStore
    condemned: CondemnedStore

    @property
    def read_only(self) -> bool:
        """Whether this process cannot write the database; changes raise PermissionDenied."""
        return self.database.read_only

    def close(self) -> bool:
        """Close the database; idempotent.

        Returns:
            Whether it was open.
        """
        return self.database.close()


def open_metadata(
    root: str, *, place: Place | None = None, clock: Clock = system_clock
) -> Metadata:
    """Open `<root>/node.db`, and create or migrate it if need be; a backup comes first.

    `<root>/lock/root` is held shared while it is open, exclusively while it is migrated. A root
    that cannot be written is opened read-only.

    Args:
        root: the node's root, which exists.
        place: of the mounts that this process makes; its own by default.
        clock: what leases are measured by.

    Raises:
        FailedPrecondition: a newer snapcore wrote it; or it is older and cannot be written.
        NotFound: there is none and it cannot be made.
        Unavailable: it must be migrated but others have it open.
        PermissionDenied, ResourceExhausted, DataLoss: as the medium says.
    """
    locks = os.path.join(root, "lock")
    if os.access(root, os.W_OK):
        try:
            os.makedirs(locks, mode=0o700, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"directory {locks!r}") from error
    database = open_database(
        os.path.join(root, "node.db"), MIGRATIONS, lock_path=os.path.join(locks, "root")
    )
    alive = partial(owner_alive, root)
    leases = LeaseStore(database, clock, alive)
    return Metadata(
        database,
        ImageStore(database),
        ContentLabels(database),
        MountStore(database, place or Place.here()),
        SnapshotterStore(database),
        leases,
        CondemnedStore(database, leases, alive),
    )
