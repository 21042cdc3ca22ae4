"""One collection, from looking to deleting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.errors import NotFound, SnapcoreError
from snapcore.gc.budget import images_to_drop
from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.gc.scan import Sources, scan
from snapcore.gc.sweep import Sweep, garbage_of
from snapcore.gc.values import Budget, Plan, Report
from snapcore.locks import FileLock
from snapcore.snapshots import Snapshotter


class Collector:
    """Collects one root. Any number of processes may have one; they take turns.

    Args:
        sources: where things are.
        locks: the node's directory of lock files.
        owner: owner id of this process.
    """

    def __init__(self, sources: Sources, locks: str, owner: str) -> None:
        self._sources: Final = sources
        self._lock: Final = os.path.join(locks, "gc")
        self._owner: Final = owner

    def graph(self) -> Graph:
        """Return what there is and what keeps what, with the sizes of all snapshots.

        Raises:
            SnapcoreError: something could not be read.
        """
        return self._with_sizes(scan(self._sources))

    def plan(self, budget: Budget | None = None) -> Plan:
        """Say what a collection would do, and do nothing.

        Args:
            budget: which images may go although they have names.

        Raises:
            SnapcoreError: something could not be read.
        """
        wanted = budget or Budget()
        graph = scan(self._sources)
        if wanted:
            graph = self._with_sizes(graph)
        images = images_to_drop(graph, self._sources.metadata.images.list(), wanted, time.time_ns())
        gone = frozenset(images)
        kept = graph.reachable(root for root in graph.roots if root not in gone)
        garbage = garbage_of(graph, kept, self._sources.backends.opened)
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
            with _timed(seconds, "sweep"):
                sweep = Sweep(self._sources, self._owner)
                images = tuple(image for image in plan.images if sweep.drop_image(image))
                swept = sweep.run(plan.garbage)
            with _timed(seconds, "files"):
                orphans = self._clean_up(swept.failed)
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
        """Delete the files of removed snapshots, and what crashed processes left."""
        orphans = {"ingests": self._sources.content.cleanup()}
        for snapshotter in self._sources.backends.opened:
            try:
                done = snapshotter.cleanup(checkpoint=self._sources.checkpoint)
            except SnapcoreError as error:
                failed[Thing(ThingKind.SNAPSHOT, "", snapshotter.name)] = str(error)
            else:
                orphans[f"directories of {snapshotter.name}"] = done.directories
        return {name: count for name, count in orphans.items() if count}

    def _with_sizes(self, graph: Graph) -> Graph:
        sizes = dict(graph.things)
        for snapshotter in self._sources.backends.opened:
            for thing in graph.of_kind(ThingKind.SNAPSHOT):
                if thing.scope == snapshotter.name:
                    sizes[thing] = _usage(snapshotter, thing.id)
        return Graph(sizes, graph.roots, graph.flat, graph.edges)


def _usage(snapshotter: Snapshotter, name: str) -> int:
    try:
        return snapshotter.usage(name).size
    except NotFound:
        return 0


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - begun
