"""The leases under which a node works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.content import ContentStore
from snapcore.errors import NotFound, SnapcoreError, Unavailable
from snapcore.gc import Activity, ThingKind
from snapcore.gc.references import references
from snapcore.metadata import (
    CONTENT,
    LeaseStore,
    Metadata,
    Resource,
    snapshot,
    system_clock,
)
from snapcore.oci import Digest

LIFETIME: Final = 24 * 3600 * 10**9
"""How long what a killed process was working on is kept, in nanoseconds."""
_log = logging.getLogger(__name__)


class LeasedWork:
    """What one piece of work holds (`snapcore.unpack.Hold`).

    Args:
        metadata: the node database.
        lease: id of the lease.
        owner: owner id of this process.
        checkpoint: called while waiting for a collector; what it raises ends the wait.
    """

    def __init__(
        self, metadata: Metadata, lease: str, owner: str, checkpoint: Callable[[], None]
    ) -> None:
        self._metadata: Final = metadata
        self._owner: Final = owner
        self._lease: Final = lease
        self._checkpoint: Final = checkpoint

    def content(self, digests: Iterable[Digest]) -> None:
        """Hold blobs; on return nobody is deleting one of them."""
        self._hold(Resource(CONTENT, str(digest)) for digest in digests)

    def snapshots(self, snapshotter: str, names: Iterable[str]) -> None:
        """Hold snapshots; on return nobody is deleting one of them."""
        self._hold(snapshot(snapshotter, name) for name in names)

    def discard(self, store: ContentStore, digest: Digest) -> bool:
        """Let a blob go and delete it, unless something else needs it; say whether it is gone.

        It is condemned before anybody is asked, as by a collector: who needs it from now on
        waits, and who needed it before has a lease, or a label that names it.
        """
        blob = [Resource(CONTENT, str(digest))]
        self._metadata.leases.let_go(self._lease, blob)
        taken = self._metadata.condemned.condemn(blob, self._owner)
        try:
            if not taken or self._metadata.labels.is_named(digest):
                return False
            store.delete(digest)
        except (NotFound, Unavailable):
            # It never came, or somebody reads it in: a collector has it later.
            return False
        finally:
            self._metadata.condemned.release(taken)
        return True

    def tree(self, store: ContentStore, digest: Digest) -> None:
        """Hold a blob and all that its labels, and those of what they name, keep."""
        pending, seen = [digest], {digest}
        while pending:
            self.content(pending)
            children: list[Digest] = []
            for parent in pending:
                children += self._named(store, parent)
            pending = [child for child in dict.fromkeys(children) if child not in seen]
            seen.update(pending)

    def _named(self, store: ContentStore, digest: Digest) -> list[Digest]:
        try:
            labels = store.info(digest).labels
        except NotFound:
            return []
        found = []
        for edge in references(labels):
            if edge.target.kind is ThingKind.CONTENT:
                found.append(Digest.parse(edge.target.id))
            elif edge.target.kind is ThingKind.SNAPSHOT:
                self.snapshots(edge.target.scope, [edge.target.id])
        return found

    def _hold(self, resources: Iterable[Resource]) -> None:
        going = self._metadata.leases.hold(self._lease, resources)
        if going:
            self._metadata.condemned.wait(going, self._checkpoint)


class Leases(LeaseStore):
    """The leases that a node gives to its users: a collector hears of those that are removed.

    Args:
        metadata: the node database.
        alive: tells of an owner id whether its process lives.
        activity: is told.
    """

    __slots__ = ("_activity",)

    def __init__(
        self, metadata: Metadata, alive: Callable[[str], bool], activity: Activity
    ) -> None:
        super().__init__(metadata.database, system_clock, alive)
        self._activity: Final = activity

    def delete(self, name: str) -> None:
        """Remove a lease; see `LeaseStore.delete`."""
        super().delete(name)
        self._activity.deleted()


@contextmanager
def leased(metadata: Metadata, owner: str, checkpoint: Callable[[], None]) -> Iterator[LeasedWork]:
    """Work under a lease of one's own for the duration of the block.

    It cannot end while this process lives, whatever the clock says; if the process is killed,
    it ends `LIFETIME` later.

    Args:
        metadata: the node database.
        owner: owner id of this process.
        checkpoint: see `LeasedWork`.

    Raises:
        SnapcoreError: the node database cannot be written.
    """
    lease = metadata.leases.create(lifetime=LIFETIME, owner=owner)
    try:
        yield LeasedWork(metadata, lease.id, owner, checkpoint)
    finally:
        try:
            metadata.leases.delete(lease.id)
        except SnapcoreError as error:
            # It ends by itself, and the work is done or has failed for a better reason.
            _log.warning("cannot remove lease %r: %s", lease.id, error)
