"""What a node consists of, each part opened on those before it.

What speaks to registries, unpacks, compares or collects is made, and imported, on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from snapcore.config import NodeConfig
from snapcore.gc import Activity
from snapcore.locks import owner_alive
from snapcore.node.ground import Ground, open_ground
from snapcore.node.holding import Leases
from snapcore.node.images import Images
from snapcore.node.mounting import Mounter
from snapcore.node.selection import Snapshotters
from snapcore.snapshots import HookTrace

if TYPE_CHECKING:
    from snapcore.node.arrivals import Arrivals
    from snapcore.node.collecting import Garbage
    from snapcore.node.integrity import Integrity
    from snapcore.node.recovery import Recovery
    from snapcore.node.repair import Repair


@dataclass(frozen=True)
class Parts:
    """The open parts of a node; see `Node` for those that it shows.

    Attributes:
        config: what it was opened with.
        environment: proxies, and what credential helpers run with.
        ground: database, blobs and workers.
        activity: told of what verbs delete and change.
        snapshotters: see `Node`.
        images: see `Node`.
        leases: see `Node`.
        mounter: mounts images.
    """

    config: NodeConfig
    environment: Mapping[str, str]
    ground: Ground
    activity: Activity
    snapshotters: Snapshotters
    images: Images
    leases: Leases
    mounter: Mounter

    @cached_property
    def recovery(self) -> Recovery:
        """See `OnUse`."""
        from snapcore.node.recovery import Recovery

        return Recovery(self.config, self.environment, self.ground)

    @cached_property
    def integrity(self) -> Integrity:
        """See `OnUse`."""
        from snapcore.node.integrity import Integrity

        return Integrity(self.config, self.ground.place)

    @cached_property
    def repair(self) -> Repair:
        """See `OnUse`."""
        from snapcore.node.repair import Repair

        return Repair(self.config.unpack, self.ground, self.recovery, self.integrity)

    @cached_property
    def garbage(self) -> Garbage:
        """See `OnUse`."""
        from snapcore.node.collecting import Garbage

        return Garbage(
            self.config.root,
            self.ground,
            self.snapshotters,
            self.mounter,
            self.integrity.inventories,
            self.activity,
        )

    @cached_property
    def arrivals(self) -> Arrivals:
        """Brings images."""
        from snapcore.node.arrivals import Arrivals

        return Arrivals(
            self.config, self.environment, self.ground, self.images, self.integrity, self.activity
        )


class OnUse:
    """What a node shows of the parts that are made on first use."""

    _parts: Parts

    @property
    def garbage(self) -> Garbage:
        """What keeps what, and the collection of the rest."""
        return self._parts.garbage

    @property
    def recovery(self) -> Recovery:
        """Damaged blobs, and fetching again what is missing."""
        return self._parts.recovery

    @property
    def integrity(self) -> Integrity:
        """Whether snapshots are what they were."""
        return self._parts.integrity

    @property
    def repair(self) -> Repair:
        """Making damaged snapshots again."""
        return self._parts.repair


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
    images = Images(ground.content, ground.metadata.images, snapshotters, activity)
    leases = Leases(ground.metadata, partial(owner_alive, config.root), activity)
    return Parts(config, environment, ground, activity, snapshotters, images, leases, mounter)
