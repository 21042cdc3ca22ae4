"""Pull, import and unpack: one road with three sources of blobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import trio

from snapcore import labels
from snapcore.archive import ApplyPolicy
from snapcore.config import UnpackConfig
from snapcore.content import ContentStore
from snapcore.errors import NotFound
from snapcore.linux import has_owners_up_to
from snapcore.node.connection import Access
from snapcore.node.values import UnpackChoice
from snapcore.oci import Descriptor, Digest, Platform, Reference
from snapcore.registry import LayoutSource, RegistryClient, Shelf
from snapcore.snapshots import Snapshotter
from snapcore.unpack import (
    Events,
    FetchDone,
    FetchProgress,
    FetchStarted,
    Handler,
    Hold,
    UnpackedManifest,
    Unpacker,
    UnpackOptions,
    Workplace,
    children_of,
    dispatch,
    for_platform,
    label_children,
    remember_choice,
)


class Source(Protocol):
    """Where blobs come from.

    Attributes:
        origin: labels that tell lazy snapshotters where to go back to; none if there is nothing.
        whole: whether an image comes from there with all its blobs, those included that its
            snapshots are not made of any more.
    """

    origin: Mapping[str, str]
    whole: bool

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Bring a blob into the content store, verified.

        Args:
            descriptor: the blob; it is not in the store.
            progress: told the bytes that are here so far, from any thread.
        """


class RegistrySource:
    """A repository of a registry."""

    whole: bool = True

    def __init__(self, client: RegistryClient, reference: Reference, access: Access) -> None:
        self._client = client
        self._reference = reference
        self.origin: Mapping[str, str] = _origin(reference, access)

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Download a blob."""
        await self._client.fetch(
            descriptor, self._reference, lambda _digest, offset, _total: progress(offset)
        )


class DirectorySource:
    """An OCI layout directory."""

    whole: bool = True

    def __init__(self, layout: LayoutSource, store: ContentStore) -> None:
        self._layout = layout
        self._store = store
        self.origin: Mapping[str, str] = {}

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Copy a blob."""
        await self._layout.fetch(descriptor, self._store, progress)


class NoSource:
    """What is here must do."""

    origin: Mapping[str, str] = MappingProxyType({})
    whole: bool = False

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Refuse.

        Raises:
            NotFound: always; the message says what to do.
        """
        del progress
        raise NotFound(
            f"blob {descriptor.digest} ({descriptor.media_type}) is not in the content store;"
            " pull the image again"
        )


def _origin(reference: Reference, access: Access) -> dict[str, str]:
    origin = {labels.CRI_IMAGE_REF: str(reference)}
    # Never credentials: labels are kept, and shown to everybody.
    if access.plain_http:
        origin[labels.SOURCE_PLAIN_HTTP] = "true"
    if access.skip_verify:
        origin[labels.SOURCE_INSECURE] = "true"
    return origin


@dataclass(frozen=True, slots=True)
class Extent:
    """Which of an index's manifests are wanted.

    Attributes:
        platform: whose manifest.
        fetch_all: fetch those of all platforms.
        unpack_all: and unpack them.
    """

    platform: Platform
    fetch_all: bool = False
    unpack_all: bool = False


def unpacking(
    config: UnpackConfig, choice: UnpackChoice, source: Source
) -> tuple[UnpackOptions, Extent]:
    """Say how and what of an image is unpacked.

    Args:
        config: the node's.
        choice: the caller's.
        source: where the image comes from.

    Raises:
        InvalidArgument: a malformed platform.
    """
    discard = choice.discard or config.discard
    privileged = os.geteuid() == 0 and has_owners_up_to()
    mapped = config.unprivileged == "map" and not privileged
    options = UnpackOptions(
        snapshot_labels=choice.snapshot_labels,
        source=source.origin,
        limits=config.limits,
        policy=ApplyPolicy("squash", "skip") if mapped else ApplyPolicy(),
        discard=discard != "never",
        # With several manifests another one may still want the blob.
        at_once=discard == "after-layer" and not choice.unpack_all,
        complete=source.whole and discard == "never",
    )
    platform = Platform.parse(choice.platform) if choice.platform else Platform.local()
    every = choice.all_platforms or choice.unpack_all
    return options, Extent(platform, every, choice.unpack_all)


class Acquisition:
    """One pull, import or unpack: walks an image's tree, fetches and unpacks it."""

    def __init__(
        self,
        place: Workplace,
        source: Source,
        events: Events,
        hold: Hold,
    ) -> None:
        self._place = place
        self._hold = hold
        self._store = place.store
        self._source = source
        self._events = events

    async def run(
        self,
        target: Descriptor,
        extent: Extent,
        snapshotters: Sequence[Snapshotter],
        options: UnpackOptions,
    ) -> tuple[UnpackedManifest, ...]:
        """Fetch everything below a descriptor that is wanted, and unpack it.

        When it returns, all of it is on disk, unless durability is `none`.

        Args:
            target: an index or a manifest.
            extent: which of an index's manifests are wanted.
            snapshotters: who get the layers; none to fetch only.
            options: how to unpack.

        Returns:
            What became of each manifest; nothing if only fetched.

        Raises:
            SnapcoreError: the first thing that went wrong; the rest was cancelled.
        """
        await trio.to_thread.run_sync(self._hold.content, [target.digest])
        handler = self._fetch_then_children()
        chosen: set[Digest] | None = None
        if not extent.fetch_all:
            handler = for_platform(handler, extent.platform)
        elif not extent.unpack_all:
            chosen = {target.digest}
            handler = remember_choice(handler, extent.platform, chosen)
        handler = label_children(self._store, handler)
        if not snapshotters:
            await dispatch(handler, [target])
            return ()
        async with Unpacker(
            self._place, snapshotters, options, self._events, self._hold
        ) as unpacker:
            await dispatch(unpacker.wrap(handler, self._fetch, chosen), [target])
        await trio.to_thread.run_sync(_make_durable, unpacker.results, snapshotters)
        return unpacker.results

    async def bring(self, blob: Descriptor) -> None:
        """Fetch one blob, unless it is here, and hold it.

        Raises:
            SnapcoreError: it cannot be had.
        """
        await trio.to_thread.run_sync(self._hold.content, [blob.digest])
        async with self._place.downloads:
            await self._fetch(blob)

    def _fetch_then_children(self) -> Handler:
        children = children_of(self._store)

        async def handle(descriptor: Descriptor) -> tuple[Descriptor, ...]:
            async with self._place.downloads:
                await self._fetch(descriptor)
            found = await children(descriptor)
            if found:
                digests = [child.digest for child in found]
                await trio.to_thread.run_sync(self._hold.content, digests)
            return found

        return handle

    async def _fetch(self, descriptor: Descriptor) -> None:
        if await trio.to_thread.run_sync(self._is_here, descriptor):
            self._events(FetchDone(descriptor, cached=True))
            return
        self._events(FetchStarted(descriptor))
        await self._source.fetch(
            descriptor, lambda offset: self._events(FetchProgress(descriptor, offset))
        )
        self._events(FetchDone(descriptor, cached=False))

    def _is_here(self, descriptor: Descriptor) -> bool:
        try:
            Shelf(self._store, "", "").found(descriptor)
        except NotFound:
            return False
        return True


def _make_durable(
    manifests: Sequence[UnpackedManifest], snapshotters: Sequence[Snapshotter]
) -> None:
    for snapshotter in snapshotters:
        for manifest in manifests:
            if manifest.chain_id:
                snapshotter.make_durable(manifest.chain_id)
