"""What a node lends to everything that fetches and unpacks on it."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from snapcore.content import ContentStore
from snapcore.unpack.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class Workplace:
    """The shared means of one node.

    Attributes:
        store: where blobs are.
        workers: who applies layers.
        downloads: the limit on downloads, shared by all images.
        layers: the limit on layers that are applied at the same time, shared likewise.
        locks: directory of the node's lock files.
        state: private directory for mount points.
        owner: id of this process's `Owner`; part of the keys in progress.
    """

    store: ContentStore
    workers: WorkerPool
    downloads: trio.CapacityLimiter
    layers: trio.CapacityLimiter
    locks: str
    state: str
    owner: str
