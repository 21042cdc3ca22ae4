"""What a node consists of, each part opened on those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from snapcore.config import NodeConfig
from snapcore.gc import Activity
from snapcore.locks import owner_alive
from snapcore.node.arrivals import Arrivals
from snapcore.node.collecting import Garbage
from snapcore.node.ground import Ground, open_ground
from snapcore.node.holding import Leases
from snapcore.node.images import Images
from snapcore.node.integrity import Integrity
from snapcore.node.mounting import Mounter
from snapcore.node.recovery import Recovery
from snapcore.node.repair import Repair
from snapcore.node.selection import Snapshotters
from snapcore.snapshots import HookTrace


@dataclass(frozen=True, slots=True)
class Parts:
    """The open parts of a node; see `Node` for those that it shows.

    Attributes:
        ground: database, blobs and workers.
        activity: told of what verbs delete and change.
        snapshotters: see `Node`.
        images: see `Node`.
        leases: see `Node`.
        mounter: mounts images.
        recovery: see `Node`.
        integrity: see `Node`.
        repair: see `Node`.
        garbage: see `Node`.
        arrivals: brings images.
    """

    ground: Ground
    activity: Activity
    snapshotters: Snapshotters
    images: Images
    leases: Leases
    mounter: Mounter
    recovery: Recovery
    integrity: Integrity
    repair: Repair
    garbage: Garbage
    arrivals: Arrivals


def open_parts(
    config: NodeConfig,
    environment: Mapping[str, str],
    trace: Callable[[HookTrace], None] | None,
    resources: ExitStack,
    *,
    freeing: bool,
) -> Parts:
    """Open the parts of a node; `resources` closes them. For the arguments see `Node.open`.

    Raises:
        SnapcoreError: as `Node.open`.
    """
    ground = open_ground(config, resources, freeing=freeing)
    activity = Activity()
    snapshotters = Snapshotters(
        config, ground.metadata.snapshotters, trace, read_only=ground.place is None
    )
    resources.callback(snapshotters.close)
    mounter = Mounter(ground.metadata.mounts, ground.place.state if ground.place else config.state)
    recovery = Recovery(config, environment, ground)
    integrity = Integrity(config, ground.place)
    images = Images(ground.content, ground.metadata.images, snapshotters, activity)
    return Parts(
        ground,
        activity,
        snapshotters,
        images,
        Leases(ground.metadata, partial(owner_alive, config.root), activity),
        mounter,
        recovery,
        integrity,
        Repair(config.unpack, ground, recovery, integrity),
        Garbage(config.root, ground, snapshotters, mounter, integrity.inventories, activity),
        Arrivals(config, environment, ground, images, integrity, activity),
    )
