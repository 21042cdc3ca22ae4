"""The room's front door: resolve and fetch, from whatever registry a reference names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from snapcore.content import ContentInfo, ContentStore
from snapcore.oci import Descriptor, Reference
from snapcore.registry.auth import Authorizer
from snapcore.registry.credentials import CredentialSource, anonymous
from snapcore.registry.download import Progress
from snapcore.registry.fetch import Fetcher
from snapcore.registry.hosts import DefaultHosts, HostsResolver
from snapcore.registry.resolve import Resolver
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import Source
from snapcore.registry.transport import Transport

REQUESTS_PER_HOST: Final = 4


class RegistryClient:
    """Reads images from registries into a content store. For one trio run; not thread-safe.

    Args:
        store: where everything goes.
        hosts: how hosts are reached.
        credentials: what hosts are shown.
        transport: sends requests; closed with the client.
        policy: how patient to be.
        requests_per_host: requests and downloads at the same time with one registry.
        clock: monotonic seconds, for the expiry of tokens.
    """

    def __init__(
        self,
        store: ContentStore,
        *,
        hosts: HostsResolver | None = None,
        credentials: CredentialSource = anonymous,
        transport: Transport | None = None,
        policy: RetryPolicy | None = None,
        requests_per_host: int = REQUESTS_PER_HOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store: Final = store
        self._hosts: Final = hosts or DefaultHosts()
        self._transport: Final = transport or Transport()
        self._authorizer: Final = Authorizer(self._transport, credentials, clock)
        self._policy: Final = policy or RetryPolicy()
        self._requests_per_host: Final = requests_per_host
        self._limiters: Final[dict[str, trio.CapacityLimiter]] = {}

    async def resolve(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Ask the registry what a reference is now; see `Resolver.resolve`.

        Returns:
            The descriptor of the manifest or index, and its bytes; they are stored as well.
        """
        return await Resolver(self._fetcher(reference)).resolve(reference)

    async def fetch(
        self, descriptor: Descriptor, reference: Reference, progress: Progress | None = None
    ) -> ContentInfo:
        """Bring a blob of a reference's repository into the store; see `Fetcher.fetch`."""
        return await self._fetcher(reference).fetch(descriptor, progress)

    async def fetch_document(
        self, descriptor: Descriptor, reference: Reference, progress: Progress | None = None
    ) -> bytes:
        """Bring a manifest, index or config into the store and return it.

        See `Resolver.document`.
        """
        return await Resolver(self._fetcher(reference)).document(descriptor, progress)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def source(self, reference: Reference) -> Source:
        """Return the repository of a reference, for requests of one's own."""
        return Source(self._hosts(reference.host), reference.repository, self._authorizer)

    def _fetcher(self, reference: Reference) -> Fetcher:
        source = self.source(reference)
        limiter = self._limiters.setdefault(
            source.host.endpoint, trio.CapacityLimiter(self._requests_per_host)
        )
        return Fetcher(self._store, source, self._policy, limiter)
