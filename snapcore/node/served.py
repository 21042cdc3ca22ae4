"""Images of a containerd: their layers come from its content store, over its socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import trio

from snapcore.content import ContentStore
from snapcore.node.acquire import Source
from snapcore.oci import Descriptor
from snapcore.registry import Intake, NamedImage, run_blocking

if TYPE_CHECKING:
    from snapcore.service.client import BlobReading, ContentClient


class ServedImages:
    """Images of a containerd, to be given to `Node.import_`.

    Args:
        content: stays open until they are imported; the caller closes it.
        names: as containerd has them.
    """

    def __init__(self, content: ContentClient, names: Sequence[str]) -> None:
        self._content: Final = content
        self._names: Final = tuple(names)

    @property
    def where(self) -> str:
        """What to call the place in messages."""
        return self._content.path

    def images(self) -> tuple[NamedImage, ...]:
        """Return what the names stand for; blocks.

        Raises:
            NotFound: there is no image of one of the names.
            Unavailable: nobody answers.
        """
        return tuple(NamedImage(self._content.image(name), name) for name in self._names)

    def source(self, store: ContentStore) -> Source:
        """Return where their blobs come from, on their way to a store."""
        return ServedSource(self._content, store)


class ServedSource:
    """A content store behind a socket. Nothing in it is trusted; every blob is verified."""

    origin: Mapping[str, str] = MappingProxyType({})
    whole: bool = True

    def __init__(self, content: ContentClient, store: ContentStore) -> None:
        self._content: Final = content
        self._store: Final = store

    async def fetch(self, descriptor: Descriptor, progress: Callable[[int], None]) -> None:
        """Copy a blob.

        Raises:
            NotFound: it is not there; containerd may have discarded it.
            DigestMismatch: it is not what its digest and size say.
            Unavailable: the other side went away.
        """
        reading = self._content.read(descriptor.digest, descriptor.size)
        take = partial(Intake(self._store).take, descriptor, reading, progress)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_with_us, reading)
            await run_blocking(take)
            nursery.cancel_scope.cancel()


async def _cancel_with_us(reading: BlobReading) -> None:
    # The thread that reads is waited for, and raises the cancel by itself.
    with suppress(trio.Cancelled):
        await trio.sleep_forever()
    reading.cancel()
