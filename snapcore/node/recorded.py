"""Fetching again what was here once, from the registry that the node's labels name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import trio

from snapcore.content import ContentStore
from snapcore.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
    Unavailable,
)
from snapcore.labels import DISTRIBUTION_SOURCE
from snapcore.node.blobs import blobs_of
from snapcore.oci import Descriptor, Reference
from snapcore.registry import RegistryClient


class RecordedSource:
    """The repositories that an image came from, or was pushed to.

    Args:
        store: has the image's documents, whose labels name the repositories.
        target: the image.
        connect: returns the client for a registry's host.
    """

    origin: Mapping[str, str] = MappingProxyType({})
    whole: bool = False

    def __init__(
        self, store: ContentStore, target: Descriptor, connect: Callable[[str], RegistryClient]
    ) -> None:
        self._store: Final = store
        self._target: Final = target
        self._connect: Final = connect
        self._clients: Final[dict[str, RegistryClient]] = {}

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Download a blob, verified.

        Raises:
            NotFound: no registry is recorded, or none of them has it any more.
            PermissionDenied, Unavailable: the last registry's answer, or none.
            RefusedInput, DigestMismatch: what a registry sent is not acceptable.
        """
        await self.fetch_from((), descriptor, progress)

    async def fetch_from(
        self,
        places: Sequence[Reference],
        descriptor: Descriptor,
        progress: Callable[[int], None],
    ) -> None:
        """As `fetch`, asking some repositories before the recorded ones."""
        what = f"blob {descriptor.digest} ({descriptor.media_type})"
        failure: SnapcoreError | None = None
        recorded = await trio.to_thread.run_sync(self._places, descriptor)
        for place in dict.fromkeys((*places, *recorded)):
            if place.host not in self._clients:
                self._clients[place.host] = self._connect(place.host)
            try:
                await self._clients[place.host].fetch(
                    descriptor, place, lambda _digest, offset, _: progress(offset)
                )
            except (NotFound, PermissionDenied, Unavailable) as error:
                failure = error
            else:
                return
        if failure is not None:
            raise type(failure)(f"{what} is not here, and cannot be fetched again: {failure}")
        raise NotFound(
            f"{what} is not in the content store, and no registry is recorded that has it;"
            " pull or import the image again"
        )

    def knows(self, blob: Descriptor) -> bool:
        """Tell whether a repository is recorded for a blob; blocks."""
        return bool(self._places(blob))

    def close(self) -> None:
        """Close connections."""
        for client in self._clients.values():
            client.close()

    def _places(self, blob: Descriptor) -> tuple[Reference, ...]:
        found: dict[str, Reference] = {}
        for document in (blob, *blobs_of(self._store, self._target)):
            for place in recorded_places(self._store, document):
                found.setdefault(place.name, place)
        return tuple(found.values())


def recorded_places(store: ContentStore, blob: Descriptor) -> Iterator[Reference]:
    """Yield the repositories that the labels of a blob name; none if it is not here."""
    try:
        given = store.info(blob.digest).labels
    except NotFound:
        return
    for key, value in given.items():
        if key.startswith(DISTRIBUTION_SOURCE):
            host = key.removeprefix(DISTRIBUTION_SOURCE)
            for repository in filter(None, value.split(",")):
                try:
                    yield Reference.parse(f"{host}/{repository}")
                except InvalidArgument:
                    # A label that a user wrote by hand is a hint, and no reason to fail.
                    continue
