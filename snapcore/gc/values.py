"""What the collector is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from snapcore.gc.graph import Graph, Thing
from snapcore.snapshots import Snapshotter


@dataclass(frozen=True, slots=True)
class Budget:
    """Which images may go although they have names; none by default.

    Attributes:
        keep: most bytes that images may hold together; the least recently used ones go first.
        unused: nanoseconds after which an image that was not used goes.
    """

    keep: int | None = None
    unused: int | None = None

    def __bool__(self) -> bool:
        return self.keep is not None or self.unused is not None


@dataclass(frozen=True, slots=True)
class Backends:
    """The snapshotters that have state below a root.

    Attributes:
        opened: those that can be asked.
        closed: those that cannot, by name, and why; their snapshots are kept.
    """

    opened: tuple[Snapshotter, ...]
    closed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing that nothing keeps.

    Attributes:
        thing: what.
        size: bytes that its removal frees.
    """

    thing: Thing
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection would do at this moment.

    Attributes:
        graph: on which the plan stands.
        images: names that go because of the budget, the first one first.
        garbage: what goes, in the order in which it goes: snapshots, children first; content;
            ingests.
        kept: how many things stay.
        unopened: snapshotters that could not be opened, and why.
    """

    graph: Graph
    images: tuple[Thing, ...]
    garbage: tuple[Garbage, ...]
    kept: int
    unopened: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that go."""
        return sum(item.size for item in self.garbage)


@dataclass(frozen=True, slots=True)
class Report:
    """What a collection did.

    Attributes:
        images: names that went because of the budget.
        removed: what went.
        spared: what turned out to be needed after all, or in use, when its turn came.
        failed: what could not be removed, and why.
        leases: ids of the leases that were over.
        orphans: what crashed processes had left behind, by class.
        unopened: snapshotters that could not be opened, and why.
        seconds: how long it took, by phase (`mark`, `sweep`, `files`).
    """

    images: tuple[Thing, ...] = ()
    removed: tuple[Garbage, ...] = ()
    spared: tuple[Thing, ...] = ()
    failed: Mapping[Thing, str] = field(default_factory=dict)
    leases: tuple[str, ...] = ()
    orphans: Mapping[str, int] = field(default_factory=dict)
    unopened: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that went."""
        return sum(item.size for item in self.removed)
