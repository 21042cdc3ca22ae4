"""Image archives: OCI layouts in a tar and docker archives, plain, gzip or zstd, also from a pipe.

What an archive is, is told by its content. One that holds both an OCI layout and a
manifest.json, as docker writes since version 25, is an OCI layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import outcome
import trio

from snapcore.archive import BlockReader, Limits, TarReader, open_stream
from snapcore.content import ContentStore
from snapcore.errors import RefusedInput
from snapcore.registry.images.contents import Contents, ContentsReader, Listener
from snapcore.registry.images.docker import DockerArchive
from snapcore.registry.images.documents import (
    DOCKER_MANIFESTS,
    INDEX,
    MARKER,
    NamedImage,
    check_marker,
    layout_images,
)
from snapcore.registry.images.intake import Intake
from snapcore.registry.interrupt import checkpoint, run_blocking

_MAX_ENTRIES: Final = 100_000
_MAX_DEPTH: Final = 16
_MAX_PAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An open archive.

    Attributes:
        descriptor: file, pipe or socket; read once, from its position; stays the caller's.
        where: names it in messages.
        limits: budgets of the whole archive; that on entries is lowered to 100,000.
    """

    descriptor: int
    where: str
    limits: Limits

    async def read(
        self, store: ContentStore, listener: Listener, progress: Callable[[int], None]
    ) -> tuple[NamedImage, ...]:
        """Bring all blobs into the content store, verified, and return the images.

        Args:
            store: where blobs go.
            listener: told of each blob.
            progress: told the bytes of the archive read so far, from a worker thread.

        Raises:
            RefusedInput: no archive of a kind that is known, malformed, or past a budget.
            DigestMismatch: a blob, config or layer is not what names it.
            ResourceExhausted, DataLoss: the content store's, or reading failed.
        """
        woken, wake = os.pipe2(os.O_CLOEXEC)
        try:
            work = partial(self._read, Intake(store), listener, progress, woken)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wake_when_cancelled, wake)
                result = await outcome.acapture(run_blocking, work)
                nursery.cancel_scope.cancel()
        finally:
            os.close(woken)
            os.close(wake)
        return result.unwrap()

    def _read(
        self, intake: Intake, listener: Listener, progress: Callable[[int], None], interrupt: int
    ) -> tuple[NamedImage, ...]:
        limits = replace(
            self.limits,
            entries=min(self.limits.entries, _MAX_ENTRIES),
            depth=_MAX_DEPTH,
            pax=_MAX_PAX,
        )
        try:
            blocks = self._blocks(limits, interrupt, progress)
            reader = TarReader(BlockReader(lambda: next(blocks, b"")), limits, absolute=False)
            contents = ContentsReader(reader, intake, listener).read()
            return self._images(contents, intake)
        except RefusedInput as error:
            # The interrupt looks like an early end of the archive.
            checkpoint()
            raise RefusedInput(f"image archive {self.where!r}: {error}") from error

    def _blocks(
        self, limits: Limits, interrupt: int, progress: Callable[[int], None]
    ) -> Iterator[bytes]:
        stream = open_stream(self.descriptor, limits, interrupt=interrupt)
        for block in stream:
            checkpoint()
            progress(stream.blob_size)
            yield block

    def _images(self, contents: Contents, intake: Intake) -> tuple[NamedImage, ...]:
        documents = contents.documents
        if MARKER in documents and INDEX in documents:
            check_marker(documents[MARKER], self.where)
            return layout_images(documents[INDEX], self.where)
        if DOCKER_MANIFESTS in documents:
            return DockerArchive(contents, intake, self.where).images()
        raise RefusedInput(
            "it holds neither an OCI layout (oci-layout and index.json) nor a docker archive"
            " (manifest.json)"
        )


async def _wake_when_cancelled(wake: int) -> None:
    with suppress(trio.Cancelled):
        await trio.sleep_forever()
    os.write(wake, b"\0")
