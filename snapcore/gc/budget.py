"""Which images go so that a budget is kept: least recently used first, none that is in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.gc.values import Budget
from snapcore.metadata import Image


def images_to_drop(
    graph: Graph, images: Sequence[Image], budget: Budget, now: int
) -> tuple[Thing, ...]:
    """Choose images whose names are taken away.

    An image stays if something of it is mounted or leased, whatever the budget says. What
    several images share counts once and goes with the last of them.

    Args:
        graph: with the sizes of everything that images may keep.
        images: all images.
        budget: what may stay.
        now: nanoseconds since the epoch.

    Returns:
        The images, in the order in which they go.
    """
    if not budget:
        return ()
    closures = {
        Thing(ThingKind.IMAGE, image.name): graph.reachable([Thing(ThingKind.IMAGE, image.name)])
        for image in images
    }
    in_use = graph.reachable(
        root for root in graph.roots if root.kind in (ThingKind.LEASE, ThingKind.MOUNT)
    )
    idle = sorted(
        (image for image in images if not _used(graph, closures, image, in_use)),
        key=lambda image: (image.used, image.name),
    )
    users = Counter(thing for closure in closures.values() for thing in closure)
    held = sum(graph.things.get(thing, 0) for thing in users)
    dropped = []
    for image in idle:
        name = Thing(ThingKind.IMAGE, image.name)
        old = budget.unused is not None and now - image.used > budget.unused
        if not old and (budget.keep is None or held <= budget.keep):
            continue
        dropped.append(name)
        for thing in closures[name]:
            users[thing] -= 1
            if not users[thing]:
                held -= graph.things.get(thing, 0)
    return tuple(dropped)


def _used(
    graph: Graph,
    closures: dict[Thing, frozenset[Thing]],
    image: Image,
    in_use: frozenset[Thing],
) -> bool:
    """Tell whether a lease or a mount holds a snapshot or a document that is the image's own.

    A base layer that another image's mount needs does not make this image used: only its top
    snapshots and its target do.
    """
    name = Thing(ThingKind.IMAGE, image.name)
    closure = closures[name]
    parents = {
        edge.target
        for thing in closure
        if thing.kind is ThingKind.SNAPSHOT
        for edge in graph.edges.get(thing, ())
        if edge.label == "parent"
    }
    tops = {t for t in closure if t.kind is ThingKind.SNAPSHOT and t not in parents}
    target = Thing(ThingKind.CONTENT, str(image.target.digest))
    return bool((tops | {target, name}) & in_use)
