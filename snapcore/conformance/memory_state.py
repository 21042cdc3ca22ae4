"""What the reference keeps in place of a disk, and the questions it is asked."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from snapcore.errors import AlreadyExists, DataLoss, NotFound
from snapcore.snapshots import Info, Kind, State, Usage


@dataclass(slots=True)
class Kept:
    """One snapshot.

    Attributes:
        number: names it in its mounts; never used twice.
        info: what is known of it.
        usage: as stored at commit.
    """

    number: int
    info: Info
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class MemoryState:
    """What a disk is to other snapshotters: it stays when they are closed.

    Attributes:
        snapshots: by key or name.
        guard: held by whoever looks at them or changes them, and asks any of the questions.
        numbers: the numbers not used yet.
        remote: values of label `containerd.io/snapshot.ref` whose layers are there already, so
            that prepare commits them itself.
        staged: those whose layers prepare puts into the new Active.
    """

    snapshots: dict[str, Kept] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    remote: frozenset[str] = frozenset()
    staged: frozenset[str] = frozenset()

    def find(self, key: str) -> Kept:
        """Return a snapshot.

        Raises:
            NotFound: there is none.
        """
        kept = self.snapshots.get(key)
        if kept is None:
            raise NotFound(f"no snapshot {key!r}")
        return kept

    def expect_free(self, key: str) -> None:
        """Check that nobody has a key or name.

        Raises:
            AlreadyExists: somebody has.
        """
        if key in self.snapshots:
            raise AlreadyExists(f"snapshot {key!r} exists already")

    def expect_whole(self, name: str) -> None:
        """Check that neither a snapshot nor any below it is broken.

        Raises:
            DataLoss: one is.
        """
        while name:
            info = self.snapshots[name].info
            if info.state is State.BROKEN:
                raise DataLoss(f"snapshot {name!r} is broken")
            name = info.parent

    def children(self, name: str) -> Iterator[Info]:
        """Yield what stands on a committed snapshot itself."""
        for kept in self.snapshots.values():
            if kept.info.parent == name:
                yield kept.info

    def users(self, name: str) -> Iterator[str]:
        """Yield the Actives and Views that stand on a snapshot, directly or not."""
        for info in self.children(name):
            if info.kind is Kind.COMMITTED:
                yield from self.users(info.name)
            else:
                yield info.name
