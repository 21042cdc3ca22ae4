"""Images to a registry: blobs first, then manifests, children before parents, the tag last."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import trio

from snapcore.content import ContentStore
from snapcore.errors import DigestMismatch, NotFound, SnapcoreError, Unavailable
from snapcore.labels import distribution_source
from snapcore.oci import Descriptor, Digest
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry.claim import Shelf
from snapcore.registry.download import check_digest, content_digest
from snapcore.registry.interrupt import run_blocking
from snapcore.registry.outgoing import Outgoing
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import ACCEPT, is_document, refusal
from snapcore.registry.upload import CHUNK_BYTES, Target, Upload, Uploaded

MAX_STEPS: Final = 1000
"""Most steps of one upload beyond one for each chunk."""
ABANDON_SECONDS: Final = 5.0
"""Longest wait for a registry that is told of an upload that ends early."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PushListener:
    """Who is told what happens to blobs, from worker threads.

    Attributes:
        started: a blob's turn begins.
        sent: so many bytes of it are at the registry.
        done: it is there.
    """

    started: Callable[[Descriptor], None]
    sent: Callable[[Descriptor, int], None]
    done: Callable[[Descriptor, Uploaded], None]


@dataclass(frozen=True, slots=True)
class Pusher:
    """Pushes to one repository.

    Attributes:
        store: has the blobs.
        target: the repository.
        policy: how patient to be.
        limiter: requests to this registry at the same time.
        listener: told of each blob.
        chunk: most bytes of one request.
    """

    store: ContentStore
    target: Target
    policy: RetryPolicy
    limiter: trio.CapacityLimiter
    listener: PushListener
    chunk: int = CHUNK_BYTES

    async def push(self, image: Outgoing, tag: str) -> None:
        """Push an image and check that the registry has it.

        Args:
            image: the image.
            tag: what it shall be called there; "" for its digest alone.

        Raises:
            DigestMismatch: the registry has something else after all.
            NotFound: it has no such repository, or a blob went from the store meanwhile.
            PermissionDenied, Unavailable, RefusedInput: as `Fetcher.fetch`.
        """
        async with trio.open_nursery() as nursery:
            for blob in image.blobs:
                if not is_document(blob):
                    nursery.start_soon(self._blob, blob)
        for blob in image.blobs:
            if is_document(blob):
                named = tag if blob.digest == image.root.digest else ""
                await self._document(blob, named or str(blob.digest))
        await self._request(partial(self._label, image))

    async def _request(self, work: Callable[[], _T]) -> _T:
        return await self.policy.run(partial(run_blocking, work, self.limiter))

    async def _blob(self, blob: Descriptor) -> None:
        opened = await run_blocking(partial(self.store.open_blob, blob.digest))
        try:
            if os.fstat(opened).st_size != blob.size:
                raise DigestMismatch(f"blob {blob.digest} is not {blob.size} bytes long here")
            upload = Upload(
                self.target,
                blob,
                lambda offset, size: os.pread(opened, size, offset),
                await run_blocking(partial(self._known_source, blob)),
                lambda offset: self.listener.sent(blob, offset),
                self.chunk,
            )
            self.listener.started(blob)
            try:
                how = await self._finish(upload, blob)
            except BaseException:
                await _abandon(upload)
                raise
        finally:
            os.close(opened)
        self.listener.done(blob, how)

    async def _finish(self, upload: Upload, blob: Descriptor) -> Uploaded:
        steps = MAX_STEPS + blob.size // self.chunk
        while upload.how is None:
            if steps == 0:
                raise Unavailable(f"the upload of {str(blob.digest)!r} does not end: gave up")
            await self._request(upload.step)
            steps -= 1
        return upload.how

    def _known_source(self, blob: Descriptor) -> str:
        source = self.target.source
        known = self.store.info(blob.digest).labels.get(distribution_source(source.registry), "")
        others = [name for name in known.split(",") if name and name != source.repository]
        return others[0] if others else ""

    async def _document(self, blob: Descriptor, name: str) -> None:
        self.listener.started(blob)
        look = partial(self._served, name, blob.digest.algorithm)
        if await self._request(look) == blob.digest:
            self.listener.done(blob, "exists")
            return
        read = partial(self.store.read_blob, blob, MAX_DOCUMENT_BYTES)
        await self._request(
            partial(put_document, self.target, blob, name, await run_blocking(read))
        )
        served = await self._request(look)
        if served is None:
            raise NotFound(f"registry took manifest {name!r} of {str(self.target)!r} and lost it")
        check_digest(served, blob.digest, f"manifest {name!r} of {str(self.target)!r}")
        self.listener.done(blob, "uploaded")

    def _served(self, name: str, algorithm: str) -> Digest | None:
        """Return the digest of what the registry has under a name, None for nothing."""
        what = f"manifest {name!r} of {str(self.target)!r}"
        url = self.target.source.manifest_url(name)
        for method in ("HEAD", "GET"):
            with self.target.send(method, url, {"Accept": ACCEPT}) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise refusal(response, what)
                if method == "GET":
                    return Digest.of(response.read_all(MAX_DOCUMENT_BYTES, what), algorithm)
                said = content_digest(response)
            if said is not None and said.algorithm == algorithm:
                return said
        return None

    def _label(self, image: Outgoing) -> None:
        """Record that the repository has all these blobs, for later mounts."""
        source = self.target.source
        shelf = Shelf(self.store, source.registry, source.repository)
        for blob in image.blobs:
            shelf.found(blob)


async def _abandon(upload: Upload) -> None:
    """Leave nothing of an upload behind at the registry, if that takes no time."""
    with trio.move_on_after(ABANDON_SECONDS, shield=True), suppress(SnapcoreError):
        await run_blocking(upload.abandon)


def put_document(target: Target, blob: Descriptor, name: str, data: bytes) -> bool:
    """Push a manifest or index. Blocks.

    Args:
        target: the repository.
        blob: what it is.
        name: the tag or digest that it gets there.
        data: its bytes.

    Returns:
        Whether the registry keeps track of its subject (distribution-spec, "Pushing Manifests
        with Subject").

    Raises:
        DigestMismatch: the registry says that it has something else.
        PermissionDenied, Unavailable: its answer.
    """
    what = f"manifest {name!r} of {str(target)!r}"
    headers = {"Content-Type": blob.media_type}
    with target.send("PUT", target.source.manifest_url(name), headers, data) as response:
        if response.status not in (200, 201, 202):
            raise refusal(response, what)
        said = content_digest(response)
        tracked = bool(response.headers.get("OCI-Subject", "").strip())
    if said is not None and said.algorithm == blob.digest.algorithm:
        check_digest(said, blob.digest, what)
    return tracked
