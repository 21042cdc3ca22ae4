"""A graph made ready for drawing: every thing with its part in an image, in a good order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from snapcore.gc.graph import Graph, Thing, ThingKind
from snapcore.labels import GC_REF_CONTENT, GC_REF_SNAPSHOT


class Role(StrEnum):
    """What a thing is in the life of an image; content is told apart by who names it, and how."""

    IMAGE = "image"
    LEASE = "lease"
    MOUNT = "mount"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    BLOB = "blob"
    INGEST = "ingest"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing in a picture.

    Attributes:
        number: its place, from 0; what keeps comes before what is kept.
        thing: what it is.
        role: its part.
        size: bytes.
        root: why it is kept for its own sake; "" if it is not.
        garbage: whether nothing keeps it.
        present: whether it is there; False for what is only named, such as a blob that was
            discarded or belongs to another platform.
    """

    number: int
    thing: Thing
    role: Role
    size: int
    root: str
    garbage: bool
    present: bool

    @property
    def group(self) -> str:
        """Where it is drawn: `image`, `layer` and so on, or `snapshots of <snapshotter>`."""
        return f"snapshots of {self.thing.scope}" if self.role is Role.SNAPSHOT else str(self.role)


@dataclass(frozen=True, slots=True)
class Link:
    """One node keeps another.

    Attributes:
        source: number of who keeps.
        target: number of who is kept.
        label: by which label, or `parent`, `target` and the like.
    """

    source: int
    target: int
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn.

    Attributes:
        nodes: by number.
        links: sorted.
        unopened: snapshotters whose snapshots are not shown, and why.
    """

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    unopened: Mapping[str, str]

    def groups(self) -> dict[str, tuple[Node, ...]]:
        """Return the nodes by group, from images to snapshots."""
        ranks = {role: rank for rank, role in enumerate(Role)}
        found: dict[str, list[Node]] = {}
        for node in sorted(self.nodes, key=lambda n: (ranks[n.role], n.thing.scope, n.number)):
            found.setdefault(node.group, []).append(node)
        return {group: tuple(nodes) for group, nodes in found.items()}


_BY_LABEL: Final = (
    (f"{GC_REF_CONTENT}.m.", Role.MANIFEST),
    (f"{GC_REF_CONTENT}.config", Role.CONFIG),
    (f"{GC_REF_CONTENT}.l.", Role.LAYER),
)


def picture(graph: Graph, unopened: Mapping[str, str]) -> Picture:
    """Return a graph with everything that its edges name, kept or not.

    Args:
        graph: with the sizes of its snapshots.
        unopened: snapshotters that could not be asked, and why.
    """
    kept = graph.reachable()
    order = _in_order(graph)
    numbers = {thing: number for number, thing in enumerate(order)}
    links = sorted(
        (numbers[source], numbers[edge.target], edge.label)
        for source, edges in graph.edges.items()
        if source in numbers
        for edge in edges
    )
    names: dict[Thing, set[str]] = {}
    for _, target, label in links:
        names.setdefault(order[target], set()).add(label)
    nodes = tuple(
        Node(
            number,
            thing,
            _role(graph, thing, names.get(thing, set())),
            graph.things.get(thing, 0),
            graph.roots.get(thing, ""),
            thing in graph.things and thing not in kept,
            thing in graph.things,
        )
        for number, thing in enumerate(order)
    )
    return Picture(nodes, tuple(Link(*link) for link in links), unopened)


def _in_order(graph: Graph) -> list[Thing]:
    """Return all things, each root followed by what it is the first to keep; garbage last."""
    order: dict[Thing, None] = {}
    for start in (*sorted(graph.roots), *sorted(graph.things)):
        pending = [start]
        while pending:
            thing = pending.pop()
            if thing in order:
                continue
            order[thing] = None
            pending += [edge.target for edge in reversed(graph.edges.get(thing, ()))]
    return list(order)


def _role(graph: Graph, thing: Thing, named_by: Iterable[str]) -> Role:
    if thing.kind is not ThingKind.CONTENT:
        return Role(str(thing.kind))
    for label in named_by:
        if label == "target":
            return Role.MANIFEST
        for prefix, role in _BY_LABEL:
            if label.startswith(prefix):
                return role
    names = [edge.label for edge in graph.edges.get(thing, ())]
    if any(name.startswith(GC_REF_SNAPSHOT) for name in names):
        return Role.CONFIG
    if any(name.startswith(GC_REF_CONTENT) for name in names):
        return Role.MANIFEST
    return Role.BLOB
