"""Fetch what a descriptor names into the content store, once however many ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import trio

from snapcore.content import ContentInfo, ContentStore
from snapcore.errors import DigestMismatch, Unavailable
from snapcore.oci import Descriptor
from snapcore.registry.claim import Claim, Shelf
from snapcore.registry.download import Download, Progress
from snapcore.registry.interrupt import run_blocking
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import Source

MAX_STEPS: Final = 1000
"""Most requests for one blob, even if each brings a little."""
_POLL_SECONDS: Final = 0.02
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches from one repository.

    Attributes:
        store: where blobs go.
        source: where they come from.
        policy: how often and how long.
        limiter: requests to this registry at the same time.
    """

    store: ContentStore
    source: Source
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    limiter: trio.CapacityLimiter | None = None

    async def fetch(self, descriptor: Descriptor, progress: Progress | None = None) -> ContentInfo:
        """Bring a blob into the store, verified, and return it.

        Args:
            descriptor: what to fetch. Its `urls` are never followed.
            progress: see `Progress`; not called for a blob that is there already, or that
                somebody else is downloading.

        Raises:
            DigestMismatch: the bytes are not those the descriptor names; nothing is stored.
            NotFound: the registry has no such blob.
            PermissionDenied: the registry refused access.
            Unavailable: it did not answer, or not usably, within the policy's tries; what came
                is kept and the next fetch resumes it.
            RefusedInput: a document of another type was served.
            ResourceExhausted, DataLoss: the content store cannot take it.
        """
        while True:
            claim = await self._claim(descriptor)
            if isinstance(claim, ContentInfo):
                return claim
            resumed = claim.ingest.offset > 0
            try:
                return await self._fill(descriptor, claim, progress)
            except DigestMismatch:
                # What was on disk may come from elsewhere and be the culprit: once more, afresh.
                if not resumed:
                    raise

    async def store_bytes(self, descriptor: Descriptor, data: bytes) -> ContentInfo:
        """Put a document that was already read into the store.

        Raises:
            DigestMismatch: `data` is not what `descriptor` names.
            ResourceExhausted, DataLoss: the content store cannot take it.
        """
        claim = await self._claim(descriptor)
        if isinstance(claim, ContentInfo):
            return claim
        try:
            return await run_blocking(partial(self._shelf.write, descriptor, claim, data))
        finally:
            claim.close()

    async def request(self, work: Callable[[], _T]) -> _T:
        """Run one blocking request in a thread, again as the policy says."""
        return await self.policy.run(partial(self._in_thread, work))

    def _in_thread(self, work: Callable[[], _T]) -> Awaitable[_T]:
        return run_blocking(work, self.limiter)

    @property
    def _shelf(self) -> Shelf:
        return Shelf(self.store, self.source.registry, self.source.repository)

    async def _claim(self, descriptor: Descriptor) -> ContentInfo | Claim:
        # Polled, because no wait on a lock file can be cancelled.
        while (claim := await run_blocking(partial(self._shelf.claim, descriptor))) is None:
            await trio.sleep(_POLL_SECONDS)
        return claim

    async def _fill(
        self, descriptor: Descriptor, claim: Claim, progress: Progress | None
    ) -> ContentInfo:
        try:
            download = Download(self.source, descriptor, claim.ingest, progress)
            steps = 0
            while not download.complete:
                if steps == MAX_STEPS:
                    raise Unavailable(
                        f"the registry needs more than {MAX_STEPS} answers for"
                        f" {str(descriptor.digest)!r}: gave up"
                    )
                await self.request(download.step)
                steps += 1
            return await run_blocking(partial(self._shelf.commit, descriptor, claim))
        finally:
            claim.close()
