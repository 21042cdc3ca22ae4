"""Things, what keeps them, and what they keep: a graph that is only read.

    image, lease, mount ──> content ──> content, snapshot
                             snapshot ──> its parent

A **root** is kept for its own sake. An **edge** says that one thing keeps another, and by which
label; a *structural* edge (a snapshot's parent, an image's target) holds even below a flat lease,
which keeps what it names but not what their labels name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ThingKind(StrEnum):
    """What there is below a node's root."""

    IMAGE = "image"
    LEASE = "lease"
    MOUNT = "mount"
    CONTENT = "content"
    INGEST = "ingest"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """One thing.

    Attributes:
        kind: what it is.
        id: name, digest, ref, key or directory.
        scope: a snapshot's snapshotter; "" for everything else.
    """

    kind: ThingKind
    id: str
    scope: str = ""

    def __str__(self) -> str:
        where = f" of {self.scope}" if self.scope else ""
        return f"{self.kind} {self.id}{where}"


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing keeps another.

    Attributes:
        target: who is kept.
        label: the label that says so; `parent`, `target` or the like if no label does.
        structural: whether it holds below a flat lease too.
    """

    target: Thing
    label: str
    structural: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything below a root at about one moment.

    Attributes:
        things: all that exist, each with its size in bytes (0 where it has none or it is not
            known).
        roots: what is kept for its own sake, and why.
        flat: the roots among them below which only structural edges hold.
        edges: by who keeps.
    """

    things: Mapping[Thing, int]
    roots: Mapping[Thing, str]
    flat: frozenset[Thing] = frozenset()
    edges: Mapping[Thing, tuple[Edge, ...]] = field(default_factory=dict)

    def reachable(self, roots: Iterable[Thing] | None = None) -> frozenset[Thing]:
        """Return what these roots keep, they themselves included; all roots by default."""
        return frozenset(self.paths(roots))

    def paths(self, roots: Iterable[Thing] | None = None) -> dict[Thing, tuple[Thing, Edge] | None]:
        """Return for everything that is kept the last step of a shortest way to it.

        Returns:
            By thing: who keeps it and by which edge; None for a root.
        """
        starts = list(self.roots if roots is None else roots)
        found: dict[Thing, tuple[Thing, Edge] | None] = dict.fromkeys(
            thing for thing in starts if thing not in self.flat
        )
        self._spread(found, deque(found), structural_only=False)
        # What only a flat root keeps comes last: elsewhere it may be kept with all it names.
        flat = [thing for thing in starts if thing in self.flat]
        self._keep_flat(found, flat)
        return found

    def _keep_flat(self, found: dict[Thing, tuple[Thing, Edge] | None], flat: list[Thing]) -> None:
        pending: deque[Thing] = deque()
        for root in flat:
            found.setdefault(root, None)
            for edge in self.edges.get(root, ()):
                if edge.target not in found:
                    found[edge.target] = (root, edge)
                    pending.append(edge.target)
        self._spread(found, pending, structural_only=True)

    def _spread(
        self,
        found: dict[Thing, tuple[Thing, Edge] | None],
        pending: deque[Thing],
        *,
        structural_only: bool,
    ) -> None:
        while pending:
            thing = pending.popleft()
            for edge in self.edges.get(thing, ()):
                if edge.target in found or (structural_only and not edge.structural):
                    continue
                found[edge.target] = (thing, edge)
                pending.append(edge.target)

    def of_kind(self, *kinds: ThingKind) -> Iterator[Thing]:
        """Yield the things of some kinds, sorted."""
        return iter(sorted(thing for thing in self.things if thing.kind in kinds))
