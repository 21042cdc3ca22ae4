"""What of a node is needed, and collecting the rest."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from snapcore.errors import PermissionDenied, SnapcoreError
from snapcore.gc import (
    Activity,
    Budget,
    Collector,
    Explanation,
    Graph,
    Plan,
    Released,
    Report,
    Schedule,
    Scheduler,
    Share,
    explain,
    find,
    released,
    shares,
)
from snapcore.gc.scan import Sources
from snapcore.gc.values import Backends
from snapcore.locks import owner_alive
from snapcore.metadata import Image, Resource
from snapcore.node.ground import Ground
from snapcore.node.inventories import Inventories
from snapcore.node.mounting import Mounter
from snapcore.node.selection import Snapshotters
from snapcore.snapshots import Checkpoint, Snapshotter, no_checkpoint
from snapcore.unpack import is_in_progress

_log = logging.getLogger(__name__)


class Garbage:
    """Questions about what keeps what, and the collection of what nothing keeps.

    Every snapshotter that has been used below the root is asked. One that cannot be opened is
    reported, and what it has is kept.

    Attributes:
        activity: what the node's verbs delete and change.
    """

    def __init__(
        self,
        root: str,
        ground: Ground,
        snapshotters: Snapshotters,
        mounter: Mounter,
        inventories: Inventories,
        activity: Activity,
    ) -> None:
        self._root: Final = root
        self._metadata: Final = ground.metadata
        self._content: Final = ground.content
        self._snapshotters: Final = snapshotters
        self._mounter: Final = mounter
        self._inventories: Final = inventories
        self.activity: Final = activity
        self._reserve: Final = ground.reserve
        self._place: Final = ground.place

    def plan(self, budget: Budget | None = None, *, checkpoint: Checkpoint = no_checkpoint) -> Plan:
        """Say what a collection would do at this moment, and do nothing.

        Args:
            budget: which images may go although they have names.
            checkpoint: called now and then; what it raises ends the work.

        Raises:
            SnapcoreError: something could not be read.
        """
        return self._collector(checkpoint).plan(budget)

    def collect(
        self, budget: Budget | None = None, *, checkpoint: Checkpoint = no_checkpoint
    ) -> Report:
        """Delete what nothing keeps; other work on this root goes on meanwhile.

        Args:
            budget: which images may go although they have names.
            checkpoint: called now and then; what it raises ends the work.

        Raises:
            PermissionDenied: the root is read-only for this process.
            SnapcoreError: something could not be read.
        """
        if self._place is None:
            raise PermissionDenied(
                f"collecting garbage writes, and root {self._root!r} is read-only for this process"
            )
        # Even what deletes must write: on a full disk what is kept for that goes first.
        with self._reserve.at_hand():
            self._mounter.forget_gone()
            report = self._collector(checkpoint).collect(budget)
            for snapshotter in self._backends().opened:
                try:
                    self._inventories.sweep(snapshotter, partial(owner_alive, self._root))
                except SnapcoreError as error:
                    _log.warning("cannot clear up after removed snapshots: %s", error)
        return report

    @asynccontextmanager
    async def collecting(self, schedule: Schedule | None = None) -> AsyncIterator[Scheduler]:
        """Collect in the background, now and then, for the duration of the block.

        The verbs of this node are heard of by themselves, from whatever thread they are called.
        A collection that is under way when the block ends is cancelled.

        Args:
            schedule: when.

        Yields:
            Who is told of deletions and changes; also of those that are made otherwise.
        """
        import trio

        async def collect() -> Report:
            work = partial(self.collect, checkpoint=trio.from_thread.check_cancelled)
            return await trio.to_thread.run_sync(work)

        scheduler = Scheduler(collect, schedule or Schedule())
        token = trio.lowlevel.current_trio_token()

        def hear(deletions: int, changes: int) -> None:
            token.run_sync_soon(scheduler.deleted, deletions)
            token.run_sync_soon(scheduler.changed, changes)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.run)
            with self.activity.heard_by(hear):
                yield scheduler
            nursery.cancel_scope.cancel()

    def hold(
        self,
        lease: str,
        resources: Iterable[Resource],
        *,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        """Put things into a lease; on return nobody is deleting one of them.

        Only then look whether they are there.

        Args:
            lease: its id.
            resources: what to hold, there or not.
            checkpoint: called while waiting for a collector; what it raises ends the wait.

        Raises:
            NotFound: no such lease.
            PermissionDenied: the root is read-only for this process.
        """
        going = self._metadata.leases.hold(lease, resources)
        self._metadata.condemned.wait(going, checkpoint)

    def graph(self) -> Graph:
        """Return what there is, how large it is, and what keeps what.

        Raises:
            SnapcoreError: something could not be read.
        """
        return self._collector(no_checkpoint).graph()

    def unopened(self) -> Mapping[str, str]:
        """Return the snapshotters that have state here and cannot be opened, and why."""
        return self._backends().closed

    def shares(self) -> Mapping[str, Share]:
        """Return how much each image keeps, alone and with others, by name.

        Raises:
            SnapcoreError: something could not be read.
        """
        return shares(self.graph())

    def released(self, images: Iterable[Image]) -> Released:
        """Say what of removed images a collection takes, and who keeps the rest.

        Args:
            images: records that were removed.

        Raises:
            SnapcoreError: something could not be read.
        """
        return released(self.graph(), images)

    def why(self, text: str) -> Sequence[Explanation]:
        """Say what keeps a thing, or that nothing does.

        Args:
            text: a digest or its beginning, an image's name, a key, a chain ID, a directory.

        Returns:
            One explanation for each thing that has this id: a chain ID may be a snapshot of
            several snapshotters.

        Raises:
            NotFound: nothing has this id.
            InvalidArgument: the beginning of several digests.
        """
        graph = self._collector(no_checkpoint).look()
        return [explain(graph, thing) for thing in find(graph, text)]

    def _collector(self, checkpoint: Checkpoint) -> Collector:
        sources = Sources(
            self._metadata,
            self._content,
            self._backends(),
            partial(is_in_progress, self._root),
            partial(owner_alive, self._root),
            checkpoint,
        )
        owner = self._place.owner if self._place else ""
        return Collector(sources, os.path.join(self._root, "lock"), owner)

    def _backends(self) -> Backends:
        opened: list[Snapshotter] = []
        closed: dict[str, str] = {}
        for name in self._snapshotters.known():
            try:
                opened.append(self._snapshotters.get(name))
            except SnapcoreError as error:
                closed[name] = str(error)
        return Backends(tuple(opened), closed)
