"""One collection, from looking to deleting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.errors import SnapcoreError
from snapcore.gc.budget import images_to_drop
from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.gc.scan import Sources, scan, sized
from snapcore.gc.sweep import Sweep, in_order_to_go
from snapcore.gc.values import Budget, Garbage, Plan, Report
from snapcore.locks import FileLock, discard_free


class Collector:
    """Collects one root. Any number of processes may have one; they take turns.

    Args:
        sources: where things are.
        locks: the node's directory of lock files.
        owner: owner id of this process.
    """

    def __init__(self, sources: Sources, locks: str, owner: str) -> None:
        self._sources: Final = sources
        self._locks: Final = locks
        self._lock: Final = os.path.join(locks, "gc")
        self._owner: Final = owner

    def look(self) -> Graph:
        """Return what there is and what keeps what; snapshots without their sizes.

        Raises:
            SnapcoreError: something could not be read.
        """
        return scan(self._sources)

    def graph(self) -> Graph:
        """As `look`, with the sizes of all snapshots, each of which must be asked for.

        Raises:
            SnapcoreError: something could not be read.
        """
        graph = self.look()
        return sized(graph, self._sources.backends.opened, graph.things)

    def plan(self, budget: Budget | None = None) -> Plan:
        """Say what a collection would do, and do nothing.

        Args:
            budget: which images may go although they have names.

        Raises:
            SnapcoreError: something could not be read.
        """
        wanted = budget or Budget()
        graph = self.graph() if wanted else self.look()
        images = images_to_drop(graph, self._sources.metadata.images.list(), wanted, time.time_ns())
        gone = frozenset(images)
        kept = graph.reachable(root for root in graph.roots if root not in gone)
        going = in_order_to_go(graph, kept)
        if not wanted:
            graph = sized(graph, self._sources.backends.opened, going)
        garbage = tuple(Garbage(thing, graph.things[thing]) for thing in going)
        return Plan(graph, images, garbage, len(kept), self._sources.backends.closed)

    def collect(self, budget: Budget | None = None) -> Report:
        """Delete what nothing keeps.

        Writers go on meanwhile. What cannot be removed is reported and does not stop the rest.

        Args:
            budget: which images may go although they have names.

        Raises:
            SnapcoreError: something could not be read or the node database not written. What
                was removed before that is gone.
        """
        seconds: dict[str, float] = {}
        with self._turn():
            with _timed(seconds, "mark"):
                self._sources.metadata.condemned.forget_dead()
                leases = self._sources.metadata.leases.expire()
                plan = self.plan(budget)
            # Before the sweep, whose own removals leave as much behind.
            with _timed(seconds, "files"):
                orphans = self._clean_up({})
            with _timed(seconds, "sweep"):
                sweep = Sweep(self._sources, self._owner)
                images = tuple(image for image in plan.images if sweep.drop_image(image))
                swept = sweep.run(plan.garbage)
            with _timed(seconds, "files"):
                self._clean_up(swept.failed)
        return Report(
            images,
            tuple(swept.removed),
            tuple(swept.spared),
            swept.failed,
            tuple(lease.id for lease in leases),
            orphans,
            plan.unopened,
            seconds,
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        lock = FileLock(self._lock)
        lock.acquire(self._sources.checkpoint)
        try:
            yield
        finally:
            lock.release()

    def _clean_up(self, failed: dict[Thing, str]) -> dict[str, int]:
        """Delete the files of removed snapshots and of crashed processes; count them by class."""
        orphans = {
            "ingests": self._sources.content.cleanup(),
            "quarantined": self._sources.content.expire_quarantine(),
            "lock files": discard_free(self._locks),
        }
        for snapshotter in self._sources.backends.opened:
            try:
                done = snapshotter.cleanup(checkpoint=self._sources.checkpoint)
            except SnapcoreError as error:
                failed[Thing(ThingKind.SNAPSHOT, "", snapshotter.name)] = str(error)
            else:
                orphans[f"directories of {snapshotter.name}"] = done.directories
        return {name: count for name, count in orphans.items() if count}


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - begun
