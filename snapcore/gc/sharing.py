"""Who keeps how much: an image alone, or several together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.gc.references import references
from snapcore.metadata import Image


@dataclass(frozen=True, slots=True)
class Share:
    """How much one image keeps, in bytes.

    Attributes:
        size: of everything that it keeps: blobs, and snapshots of all backends.
        unique: the part that nothing else keeps; so much goes if the image goes.
    """

    size: int
    unique: int

    @property
    def shared(self) -> int:
        """The part that other images, leases or mounts keep too."""
        return self.size - self.unique


@dataclass(frozen=True, slots=True)
class Released:
    """What images kept that have no name any more.

    Attributes:
        garbage: what nothing keeps now, by size: the next collection takes it.
        shared: who keeps the rest, each with the bytes that it keeps of it.
    """

    garbage: Mapping[Thing, int]
    shared: Mapping[Thing, int]

    @property
    def size(self) -> int:
        """Bytes that a collection frees."""
        return sum(self.garbage.values())


def shares(graph: Graph) -> dict[str, Share]:
    """Return what each image keeps, by name; two names of one image share all of it.

    Args:
        graph: with the sizes of its snapshots.
    """
    closures = {
        thing.id: graph.reachable([thing]) - {thing} for thing in graph.of_kind(ThingKind.IMAGE)
    }
    users = Counter(thing for closure in closures.values() for thing in closure)
    others = graph.reachable(root for root in graph.roots if root.kind is not ThingKind.IMAGE)
    return {
        name: Share(
            _size(graph, closure),
            _size(graph, (t for t in closure if users[t] == 1 and t not in others)),
        )
        for name, closure in closures.items()
    }


def released(graph: Graph, images: Iterable[Image]) -> Released:
    """Say what becomes of what images kept.

    Args:
        graph: of a moment when their names were gone, with the sizes of its snapshots.
        images: the records that were removed.
    """
    starts: set[Thing] = set()
    for image in images:
        starts.add(Thing(ThingKind.CONTENT, str(image.target.digest)))
        starts.update(edge.target for edge in references(image.labels))
    freed = graph.reachable(starts) & graph.things.keys()
    kept = freed & graph.reachable()
    held = {root: _size(graph, kept & graph.reachable([root])) for root in graph.roots}
    return Released(
        {thing: graph.things[thing] for thing in sorted(freed - kept)},
        {root: size for root, size in sorted(held.items()) if size},
    )


def _size(graph: Graph, things: Iterable[Thing]) -> int:
    return sum(graph.things.get(thing, 0) for thing in things)
