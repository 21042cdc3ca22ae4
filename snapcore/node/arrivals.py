"""Bringing an image to a node, from wherever it comes, and giving it its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import trio

from snapcore.config import NodeConfig
from snapcore.gc import Activity
from snapcore.node.acquire import Acquisition, NoSource, RegistrySource, Source, unpacking
from snapcore.node.connection import registry_client
from snapcore.node.ground import Ground
from snapcore.node.holding import leased
from snapcore.node.images import Images
from snapcore.node.integrity import Integrity
from snapcore.node.tally import DiskTally
from snapcore.node.values import PullOptions, PullResult, UnpackChoice
from snapcore.oci import Descriptor, Platform, Reference
from snapcore.snapshots import Snapshotter
from snapcore.unpack import Events, Resolved, Workplace


class Arrivals:
    """Fetches and unpacks images under a lease, and records them.

    Args:
        config: how registries are reached, and layers unpacked.
        environment: proxies, and what credential helpers run with.
        ground: has the node database.
        images: where names are recorded.
        integrity: takes stock of what is unpacked.
        activity: told of each image that comes.
    """

    def __init__(
        self,
        config: NodeConfig,
        environment: Mapping[str, str],
        ground: Ground,
        images: Images,
        integrity: Integrity,
        activity: Activity,
    ) -> None:
        self._config: Final = config
        self._environment: Final = environment
        self._metadata: Final = ground.metadata
        self._images: Final = images
        self._integrity: Final = integrity
        self._activity: Final = activity

    async def pull(
        self,
        place: Workplace,
        name: Reference,
        options: PullOptions,
        snapshotters: Sequence[Snapshotter],
        events: Events,
    ) -> PullResult:
        """Bring an image from its registry; see `Node.pull`."""
        if options.policy != "always":
            local = await self._locally(place, str(name), options, snapshotters, events)
            if local is not None:
                return local
        client = registry_client(
            place.store, self._config.registry, name.host, options, self._environment
        )
        try:
            if snapshotters:
                place.workers.start()
            target, _ = await client.resolve(name)
            events(Resolved(str(name), target))
            source = RegistrySource(client, name, options)
            return await self.acquire(
                place, str(name), target, source, options.choice, snapshotters, events
            )
        finally:
            client.close()

    async def acquire(
        self,
        place: Workplace,
        name: str,
        target: Descriptor,
        source: Source,
        choice: UnpackChoice,
        snapshotters: Sequence[Snapshotter],
        events: Events,
        *,
        move: bool = True,
    ) -> PullResult:
        """Fetch what is wanted of an image, unpack it, and record its name.

        Args:
            place: what fetching and unpacking need.
            name: of the image.
            target: its index or manifest.
            source: where blobs come from.
            choice: what is unpacked.
            snapshotters: who get the layers.
            events: told what happens.
            move: whether a name that means another image may be given away.

        Raises:
            AlreadyExists: it means another image, and `move` is False.
            SnapcoreError: the first thing that went wrong; the rest was cancelled.
        """
        options, extent = unpacking(self._config.unpack, choice, source)
        tally = DiskTally(snapshotters, events)
        checkpoint = trio.from_thread.check_cancelled
        with self._activity.work(), leased(self._metadata, place.owner, checkpoint) as work:
            async with self._integrity.recording(snapshotters, tally) as listen:
                acquisition = Acquisition(place, source, listen, work)
                manifests = await acquisition.run(target, extent, snapshotters, options)
            record = partial(self._images.put, name, target, move=move)
            await trio.to_thread.run_sync(record)
        return PullResult(name, target, manifests, tally.peak)

    async def _locally(
        self,
        place: Workplace,
        name: str,
        options: PullOptions,
        snapshotters: Sequence[Snapshotter],
        events: Events,
    ) -> PullResult | None:
        """Do a pull with what is here; None if the policy says to ask the registry after all."""
        platform = Platform.or_local(options.choice.platform)
        target = self._images.enough(name, platform, options.policy, snapshotters)
        if target is None:
            return None
        events(Resolved(name, target))
        return await self.acquire(
            place, name, target, NoSource(), options.choice, snapshotters, events
        )
