"""Looking at everything below a root, in the order that makes a collection safe.

1. **Candidates**: what exists. What is made later is no candidate and cannot be lost.
2. **Roots**, leases before everything else: who finishes a pull records the image before the
   lease goes, so a lease that is missed here has left an image that is found after it.
3. **Edges**: labels and parents. A pull writes them before it lets go of its lease.

No lock is held and no transaction stays open, so writers go on; what they need meanwhile is
leased, and the sweep asks the leases again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from snapcore import labels as keys
from snapcore.content import ContentStore
from snapcore.errors import NotFound
from snapcore.gc.graph import Edge, Graph, Thing, ThingKind
from snapcore.gc.references import back_references, expired, references
from snapcore.gc.values import Backends
from snapcore.metadata import (
    CONTENT,
    IMAGES,
    INGESTS,
    SNAPSHOTS,
    Lease,
    Metadata,
    MountRecord,
    Resource,
)
from snapcore.snapshots import Checkpoint, Info, Kind, Snapshotter

INGEST_SECONDS = 24 * 3600
"""How long an unfinished blob waits for somebody to resume it (containerd: the same)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a scan looks.

    Attributes:
        metadata: images, leases and mounts.
        content: blobs and ingests.
        backends: snapshots.
        in_progress: tells of a snapshot's key whether a living process works on it.
        alive: tells of an owner id whether its process lives.
        checkpoint: called now and then; what it raises ends the scan.
    """

    metadata: Metadata
    content: ContentStore
    backends: Backends
    in_progress: Callable[[str], bool]
    alive: Callable[[str], bool]
    checkpoint: Checkpoint


@dataclass(slots=True)
class _Growing:
    """A graph that is being put together."""

    things: dict[Thing, int] = field(default_factory=dict)
    roots: dict[Thing, str] = field(default_factory=dict)
    flat: set[Thing] = field(default_factory=set)
    edges: dict[Thing, list[Edge]] = field(default_factory=dict)

    def link(self, source: Thing, *edges: Edge) -> None:
        self.edges.setdefault(source, []).extend(edges)

    def labels(self, thing: Thing, labels: Iterable[tuple[str, str]]) -> None:
        values = dict(labels)
        if not values:
            return
        if found := tuple(references(values)):
            self.link(thing, *found)
        for back in back_references(values):
            self.link(back.target, Edge(thing, back.label))
        if keys.GC_ROOT in values:
            self.roots.setdefault(thing, f"label {keys.GC_ROOT}")

    def done(self) -> Graph:
        edges = {thing: tuple(edges) for thing, edges in self.edges.items()}
        return Graph(self.things, self.roots, frozenset(self.flat), edges)


def scan(sources: Sources) -> Graph:
    """Return what there is, what is kept for its own sake, and what keeps what.

    Raises:
        SnapcoreError: a room could not be read; nothing may be collected then.
    """
    growing = _Growing()
    _candidates(sources, growing)
    now = time.time_ns()
    for lease, held in sources.metadata.leases.live():
        _lease(growing, lease, held, now)
    for mount in sources.metadata.mounts.list():
        _mount(growing, mount)
    _images(sources, growing, now)
    _ingests(sources, growing, now)
    _content_edges(sources, growing)
    for snapshotter in sources.backends.opened:
        _snapshot_edges(sources, snapshotter, growing)
    return growing.done()


def sized(graph: Graph, opened: Sequence[Snapshotter], things: Iterable[Thing]) -> Graph:
    """Return a graph that knows the sizes of some of its snapshots; a scan asks for none.

    Raises:
        SnapcoreError: a snapshotter could not tell.
    """
    by_name = {snapshotter.name: snapshotter for snapshotter in opened}
    sizes = {
        thing: _usage(by_name[thing.scope], thing.id)
        for thing in things
        if thing.kind is ThingKind.SNAPSHOT
    }
    return replace(graph, things={**graph.things, **sizes})


def _usage(snapshotter: Snapshotter, name: str) -> int:
    try:
        return snapshotter.usage(name).size
    except NotFound:
        return 0


def thing_of(resource: Resource) -> Thing:
    """Return the thing that a lease's resource names."""
    kinds = {
        CONTENT: ThingKind.CONTENT,
        INGESTS: ThingKind.INGEST,
        IMAGES: ThingKind.IMAGE,
    }
    if resource.kind in kinds:
        return Thing(kinds[resource.kind], resource.id)
    return Thing(ThingKind.SNAPSHOT, resource.id, resource.kind.removeprefix(SNAPSHOTS))


def resource_of(thing: Thing) -> Resource:
    """Return how a lease names content, an ingest, an image or a snapshot."""
    kinds = {
        ThingKind.CONTENT: CONTENT,
        ThingKind.INGEST: INGESTS,
        ThingKind.IMAGE: IMAGES,
        ThingKind.SNAPSHOT: SNAPSHOTS + thing.scope,
    }
    return Resource(kinds[thing.kind], thing.id)


def _candidates(sources: Sources, growing: _Growing) -> None:
    for snapshotter in sources.backends.opened:
        for info in snapshotter.walk():
            growing.things[Thing(ThingKind.SNAPSHOT, info.name, snapshotter.name)] = 0
        sources.checkpoint()
    for digest, size in sources.content.sizes():
        growing.things[Thing(ThingKind.CONTENT, str(digest))] = size
    for ingest in sources.content.statuses():
        growing.things[Thing(ThingKind.INGEST, ingest.ref)] = ingest.offset
    sources.checkpoint()


def _lease(growing: _Growing, lease: Lease, held: tuple[Resource, ...], now: int) -> None:
    if expired(lease.labels, now):
        return
    thing = Thing(ThingKind.LEASE, lease.id)
    growing.things[thing] = 0
    growing.roots[thing] = "lease"
    if keys.GC_FLAT in lease.labels:
        growing.flat.add(thing)
    growing.link(thing, *(Edge(thing_of(resource), "held") for resource in held))
    growing.link(thing, *references(lease.labels))


def _mount(growing: _Growing, record: MountRecord) -> None:
    thing = Thing(ThingKind.MOUNT, record.target)
    growing.things[thing] = 0
    growing.roots[thing] = f"image {record.image!r} is mounted there"
    growing.link(
        thing, Edge(Thing(ThingKind.SNAPSHOT, record.key, record.snapshotter), "mounted", True)
    )


def _images(sources: Sources, growing: _Growing, now: int) -> None:
    for image in sources.metadata.images.list():
        thing = Thing(ThingKind.IMAGE, image.name)
        growing.things[thing] = 0
        target = Thing(ThingKind.CONTENT, str(image.target.digest))
        growing.link(thing, Edge(target, "target", structural=True))
        growing.labels(thing, image.labels.items())
        if not expired(image.labels, now):
            growing.roots[thing] = "image"


def _ingests(sources: Sources, growing: _Growing, now: int) -> None:
    for ingest in sources.content.statuses():
        thing = Thing(ThingKind.INGEST, ingest.ref)
        if sources.alive(ingest.owner):
            growing.roots[thing] = "a living process writes it"
        elif ingest.expected is not None and now - ingest.updated < INGEST_SECONDS * 10**9:
            # Of what shall become of the others only their writers knew.
            growing.roots[thing] = "may be resumed"
        if ingest.expected is not None:
            blob = Thing(ThingKind.CONTENT, str(ingest.expected))
            # Whoever needs the blob needs what is there of it.
            growing.link(blob, Edge(thing, "unfinished", structural=True))
            growing.link(thing, Edge(blob, "expected", structural=True))


def _content_edges(sources: Sources, growing: _Growing) -> None:
    for blob in sources.content.walk():
        growing.labels(Thing(ThingKind.CONTENT, str(blob.digest)), blob.labels.items())
    sources.checkpoint()


def _snapshot_edges(sources: Sources, snapshotter: Snapshotter, growing: _Growing) -> None:
    for info in snapshotter.walk():
        thing = Thing(ThingKind.SNAPSHOT, info.name, snapshotter.name)
        if info.parent:
            parent = Thing(ThingKind.SNAPSHOT, info.parent, snapshotter.name)
            growing.link(thing, Edge(parent, "parent", structural=True))
        growing.labels(thing, info.labels.items())
        why = kept_for_itself(info, sources.in_progress)
        if why:
            growing.roots.setdefault(thing, why)
    sources.checkpoint()


def kept_for_itself(info: Info, in_progress: Callable[[str], bool]) -> str:
    """Say why a snapshot is a root by what it is; "" if it is none."""
    if keys.OWNER in info.labels:
        return "made through the service; only its client removes it"
    if keys.GC_ROOT in info.labels:
        return f"label {keys.GC_ROOT}"
    if info.kind is not Kind.COMMITTED and in_progress(info.name):
        return "a living process works on it"
    return ""


def still_unneeded(snapshotter: Snapshotter, name: str, in_progress: Callable[[str], bool]) -> bool:
    """Tell whether a snapshot is there and has not become a root since the scan."""
    try:
        return not kept_for_itself(snapshotter.stat(name), in_progress)
    except NotFound:
        return False
