"""Deleting garbage: condemned first, children first, and one failure stops nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from snapcore.errors import FailedPrecondition, NotFound, SnapcoreError, Unavailable
from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.gc.scan import Sources, resource_of, still_unneeded
from snapcore.gc.values import Garbage
from snapcore.oci import Digest

_BATCH: Final = 200
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """What became of the garbage."""

    removed: list[Garbage] = field(default_factory=list)
    spared: list[Thing] = field(default_factory=list)
    failed: dict[Thing, str] = field(default_factory=dict)


class Sweep:
    """Deletes what a mark did not reach.

    Args:
        sources: where things are.
        collector: owner id of this process.
    """

    def __init__(self, sources: Sources, collector: str) -> None:
        self._sources: Final = sources
        self._collector: Final = collector
        self._opened: Final = {s.name: s for s in sources.backends.opened}
        self.swept: Final = Swept()

    def run(self, garbage: Sequence[Garbage]) -> Swept:
        """Delete these things in this order, and say what became of them.

        Raises:
            SnapcoreError: the node database could not be written; what was condemned is struck
                out by whoever comes next.
        """
        for batch in _batches(garbage):
            self._sources.checkpoint()
            sizes = {resource_of(item.thing): item for item in batch}
            taken = self._sources.metadata.condemned.condemn(sizes, self._collector)
            try:
                for resource, item in sizes.items():
                    if resource in taken:
                        self._remove(item)
                    else:
                        self.swept.spared.append(item.thing)
            finally:
                self._sources.metadata.condemned.release(taken)
        return self.swept

    def drop_image(self, image: Thing) -> bool:
        """Take an image's name away, unless it is leased by now; say whether it is gone."""
        resource = resource_of(image)
        condemned = self._sources.metadata.condemned
        taken = condemned.condemn([resource], self._collector)
        try:
            for gone in taken:
                self._sources.metadata.images.delete(gone.id)
        except NotFound:
            return False
        finally:
            condemned.release(taken)
        return bool(taken)

    def _remove(self, item: Garbage) -> None:
        thing = item.thing
        try:
            gone = self._delete(thing)
        except NotFound:
            return
        except (FailedPrecondition, Unavailable) as error:
            # It has a child, or a writer, that the scan did not see: so it is needed.
            _log.debug("kept %s: %s", thing, error)
            gone = False
        except SnapcoreError as error:
            _log.warning("cannot remove %s: %s", thing, error)
            self.swept.failed[thing] = str(error)
            return
        if gone:
            self.swept.removed.append(item)
        else:
            self.swept.spared.append(thing)

    def _delete(self, thing: Thing) -> bool:
        if thing.kind is ThingKind.SNAPSHOT:
            snapshotter = self._opened[thing.scope]
            if not still_unneeded(snapshotter, thing.id, self._sources.in_progress):
                return False
            snapshotter.remove(thing.id, checkpoint=self._sources.checkpoint)
        elif thing.kind is ThingKind.CONTENT:
            self._sources.content.delete(Digest.parse(thing.id))
        else:
            self._sources.content.abort(thing.id)
        return True


def in_order_to_go(graph: Graph, kept: Iterable[Thing]) -> tuple[Thing, ...]:
    """Return what is not kept: snapshots, children first; content; ingests."""
    alive = frozenset(kept)
    return (
        *children_first(graph, (t for t in graph.of_kind(ThingKind.SNAPSHOT) if t not in alive)),
        *(t for t in graph.of_kind(ThingKind.CONTENT) if t not in alive),
        *(t for t in graph.of_kind(ThingKind.INGEST) if t not in alive),
    )


def children_first(graph: Graph, snapshots: Iterable[Thing]) -> Iterator[Thing]:
    """Yield snapshots so that none comes before one that stands on it."""
    wanted = list(snapshots)
    parents = {
        thing: edge.target
        for thing in wanted
        for edge in graph.edges.get(thing, ())
        if edge.label == "parent"
    }
    depths: dict[Thing, int] = {}
    for thing in wanted:
        way = [thing]
        while (parent := parents.get(way[-1])) is not None and way[-1] not in depths:
            way.append(parent)
        depth = depths.get(way[-1], 0)
        for step in reversed(way):
            depth = depths.setdefault(step, depth) + 1
    return iter(sorted(wanted, key=lambda thing: (-depths[thing], thing)))


def _batches(garbage: Sequence[Garbage]) -> Iterator[list[Garbage]]:
    items = iter(garbage)
    while batch := list(islice(items, _BATCH)):
        yield batch
