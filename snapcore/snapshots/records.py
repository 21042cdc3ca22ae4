"""What a MetaStore tells: records, stacks, and the two rituals that are under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from snapcore.filters import Fields, record_fields
from snapcore.snapshots.types import Info, Kind, Labels, Usage

WALK_FIELDS: Final = ("name", "parent", "kind", "labels")
"""The fields that a walk's filters may name."""


@dataclass(frozen=True, slots=True)
class Record:
    """One snapshot as it is recorded.

    Attributes:
        id: names its directory; never used twice in one root.
        info: what is known of it.
        usage: as stored at commit; None for Active and View, which are measured.
    """

    id: int
    info: Info
    usage: Usage | None


Present: TypeAlias = Callable[[Record], Info]
"""Makes the info that is answered of a record, for a backend that adds labels of its own."""


def info_of(record: Record) -> Info:
    """Answer what is recorded."""
    return record.info


@dataclass(frozen=True, slots=True)
class Stack:
    """A snapshot and what lies below it.

    Attributes:
        record: the snapshot.
        parents: ids of its parents, the nearest first.
    """

    record: Record
    parents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """An id that this process may make a directory for, and what it will be recorded as.

    Attributes:
        id: the new snapshot's.
        kind: active or view.
        key: its key.
        parent: name of its parent, "" for none.
        parents: ids of its parents, the nearest first.
        labels: as given.
    """

    id: int
    kind: Kind
    key: str
    parent: str
    parents: tuple[int, ...]
    labels: Labels


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """A commit that was found allowed. It is checked again when it is carried out.

    Attributes:
        id: of the active snapshot.
        name: what it will be called.
        key: what it is called.
        parent: new parent of a rebase, "" to keep the parent.
    """

    id: int
    name: str
    key: str
    parent: str


@dataclass(frozen=True, slots=True)
class Ids:
    """Every id in use.

    Attributes:
        recorded: ids of snapshots.
        reserved: ids of reservations, with the id of the `snapcore.locks.Owner`.
    """

    recorded: frozenset[int]
    reserved: Mapping[int, str]


def info_fields(info: Info) -> Fields:
    """Return the view of an info that filters look at.

    No parent is the parent "", and not a field that is not there: containerd asks for
    `parent==""` when a backend supplies the lowest layer (containerd, metadata/snapshot.go).
    """
    others = record_fields({"name": info.name, "kind": info.kind.value}, info.labels)
    return lambda path: info.parent if path == ("parent",) else others(path)
