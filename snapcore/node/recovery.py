"""Blobs that are damaged, lost or were discarded: finding them, and fetching them again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from snapcore.config import NodeConfig
from snapcore.content import ContentInfo
from snapcore.errors import DataLoss, DigestMismatch, NotFound, SnapcoreError
from snapcore.metadata import Image
from snapcore.node.blobs import blobs_of
from snapcore.node.connection import registry_client
from snapcore.node.ground import Ground
from snapcore.node.holding import LeasedWork, leased
from snapcore.node.recorded import RecordedSource, recorded_places
from snapcore.node.values import PullOptions
from snapcore.oci import Descriptor, Digest, Platform, is_foreign_layer
from snapcore.snapshots import Checkpoint
from snapcore.unpack import (
    Events,
    FetchDone,
    FetchProgress,
    FetchStarted,
    best_document,
    no_events,
)

_UNKNOWN: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """A blob whose bytes are not what its digest says.

    Attributes:
        digest: its name.
        path: its file, or where that was set aside.
        reason: what is wrong with it.
        repaired: whether the right bytes are here again.
        trouble: why they could not be fetched; "" if nobody tried or it worked.
    """

    digest: Digest
    path: str
    reason: str
    repaired: bool = False
    trouble: str = ""


class Recovery:
    """Fetches blobs again from where their images came from.

    Args:
        config: how registries are reached.
        environment: proxies, and what credential helpers run with.
        ground: images, leases and blobs.
    """

    def __init__(
        self,
        config: NodeConfig,
        environment: Mapping[str, str],
        ground: Ground,
    ) -> None:
        self._config: Final = config
        self._environment: Final = environment
        self._metadata: Final = ground.metadata
        self._content: Final = ground.content
        self._place: Final = ground.place

    @asynccontextmanager
    async def source(self, target: Descriptor) -> AsyncIterator[RecordedSource]:
        """Have the registries that an image came from for the duration of the block."""
        source = RecordedSource(
            self._content,
            target,
            lambda host: registry_client(
                self._content, self._config.registry, host, PullOptions(), self._environment
            ),
        )
        try:
            yield source
        finally:
            source.close()

    @asynccontextmanager
    async def whole(
        self, images: Sequence[Image], platform: Platform | None, events: Events
    ) -> AsyncIterator[None]:
        """Fetch what images lack, and keep it for the duration of the block.

        What no registry is recorded for stays missing, and so does all that is missing of a
        root that is read-only for this process.

        Args:
            images: the images.
            platform: only what this platform needs; None for everything.
            events: told what is fetched.

        Raises:
            SnapcoreError: as `RecordedSource.fetch`, where a registry is recorded.
        """
        if self._place is None:
            yield
            return
        with leased(self._metadata, self._place.owner, trio.from_thread.check_cancelled) as work:
            for image in images:
                await self._complete(image.target, platform, work, events)
            yield

    def verify(self, digests: Iterable[Digest], checkpoint: Checkpoint) -> tuple[DamagedBlob, ...]:
        """Read blobs, and return those whose bytes are wrong; blocks.

        Args:
            digests: which; all for none.
            checkpoint: called after each.

        Raises:
            NotFound: one of `digests` is not here.
        """
        damaged = []
        named = tuple(digests)
        for digest in named or (info.digest for info in self._content.walk()):
            try:
                with self._content.reader(digest) as reader:
                    reader.verify()
            except (DigestMismatch, DataLoss) as error:
                damaged.append(DamagedBlob(digest, self._content.path(digest), str(error)))
            except NotFound:
                # Collected since it was listed.
                if named:
                    raise
            checkpoint()
        return tuple(damaged)

    async def repair(self, blob: DamagedBlob, events: Events = no_events) -> DamagedBlob:
        """Set a damaged blob aside and fetch it again; labels stay as they were.

        If it cannot be fetched it is set aside all the same: whoever needs it next fetches it.

        Args:
            blob: what `verify` found.
            events: told what is fetched.

        Returns:
            What became of it; never an exception for one that cannot be fetched.

        Raises:
            NotFound: it is gone meanwhile.
            PermissionDenied: the root is read-only.
        """
        owner = self._place.owner if self._place else ""
        with leased(self._metadata, owner, trio.from_thread.check_cancelled) as work:
            await trio.to_thread.run_sync(work.tree, self._content, blob.digest)
            info = await trio.to_thread.run_sync(self._content.info, blob.digest)
            places = tuple(recorded_places(self._content, _descriptor(info)))
            aside = await trio.to_thread.run_sync(self._content.quarantine, blob.digest)
            trouble = ""
            try:
                target, wanted = await trio.to_thread.run_sync(self._whose, info)
                async with self.source(target) as source:
                    await source.fetch_from(places, wanted, partial(_progress, events, wanted))
            except SnapcoreError as error:
                trouble = str(error)
            else:
                await trio.to_thread.run_sync(self._put_back, info, aside)
        path = aside if trouble else self._content.path(blob.digest)
        return DamagedBlob(blob.digest, path, blob.reason, not trouble, trouble)

    def _put_back(self, info: ContentInfo, aside: str) -> None:
        """Give a blob the labels that it had, and delete what was set aside."""
        if info.labels:
            paths = tuple(f"labels.{key}" for key in info.labels)
            self._content.update(info.digest, info.labels, paths)
        os.unlink(aside)

    def _whose(self, info: ContentInfo) -> tuple[Descriptor, Descriptor]:
        """Return the image that a blob belongs to, and what it is there."""
        for image in self._metadata.images.list():
            try:
                blobs = blobs_of(self._content, image.target)
            except SnapcoreError:
                # Another document of that image is damaged too; its turn will come.
                continue
            for blob in blobs:
                if blob.digest == info.digest:
                    return image.target, blob
        return _descriptor(info), _descriptor(info)

    async def _complete(
        self,
        target: Descriptor,
        platform: Platform | None,
        work: LeasedWork,
        events: Events,
    ) -> None:
        tried: set[Digest] = set()
        async with self.source(target) as source:
            # A document that comes may name more.
            while missing := await trio.to_thread.run_sync(
                self._hold_and_look, target, platform, work, tried
            ):
                for blob in missing:
                    tried.add(blob.digest)
                    if await trio.to_thread.run_sync(source.knows, blob):
                        events(FetchStarted(blob))
                        await source.fetch(blob, partial(_progress, events, blob))
                        events(FetchDone(blob, cached=False))

    def _hold_and_look(
        self,
        target: Descriptor,
        platform: Platform | None,
        work: LeasedWork,
        tried: set[Digest],
    ) -> tuple[Descriptor, ...]:
        work.content([target.digest])
        root = target if platform is None else best_document(self._content, target, platform)
        blobs = blobs_of(self._content, root)
        work.content(blob.digest for blob in blobs)
        return tuple(
            blob
            for blob in blobs
            if blob.digest not in tried
            and not is_foreign_layer(blob.media_type)
            and not self._content.exists(blob.digest)
        )


def _progress(events: Events, blob: Descriptor, offset: int) -> None:
    events(FetchProgress(blob, offset))


def _descriptor(info: ContentInfo) -> Descriptor:
    return Descriptor(_UNKNOWN, info.digest, info.size)
