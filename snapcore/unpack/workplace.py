"""What a node lends to everything that fetches and unpacks on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from snapcore.content import ContentStore

if TYPE_CHECKING:
    import trio

    from snapcore.unpack.pool import WorkerPool


@dataclass(frozen=True)
class Workplace:
    """The shared means of one node; what a verb does without is not imported for it.

    Attributes:
        store: where blobs are.
        locks: directory of the node's lock files.
        state: private directory for mount points.
        owner: id of this process's `Owner`; part of the keys in progress.
        owner_lock: descriptor of its lock, which workers inherit.
        most_downloads: at the same time.
        most_layers: applied at the same time.
    """

    store: ContentStore
    locks: str
    state: str
    owner: str
    owner_lock: int
    most_downloads: int
    most_layers: int

    @cached_property
    def workers(self) -> WorkerPool:
        """Who applies layers."""
        from snapcore.unpack.pool import WorkerPool

        return WorkerPool(self.owner_lock)

    @cached_property
    def downloads(self) -> trio.CapacityLimiter:
        """The limit on downloads, shared by all images."""
        import trio

        return trio.CapacityLimiter(self.most_downloads)

    @cached_property
    def layers(self) -> trio.CapacityLimiter:
        """The limit on layers that are applied at the same time, shared likewise."""
        import trio

        return trio.CapacityLimiter(self.most_layers)

    def close(self) -> None:
        """End the workers, if there are any."""
        if "workers" in self.__dict__:
            self.workers.close()
