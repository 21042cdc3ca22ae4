"""The room's front door: resolve and fetch, from whatever registry a reference names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from snapcore.content import ContentInfo, ContentStore
from snapcore.errors import InvalidArgument, RefusedInput
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry.auth import Authorizer
from snapcore.registry.breaker import PAUSE_SECONDS
from snapcore.registry.credentials import CredentialSource, anonymous
from snapcore.registry.download import Progress
from snapcore.registry.fetch import Fetcher
from snapcore.registry.hosts import Capability, DefaultHosts, HostConfig, HostsResolver
from snapcore.registry.interrupt import run_blocking
from snapcore.registry.mirrors import Mirrors
from snapcore.registry.outgoing import Outgoing
from snapcore.registry.push import Pusher, PushListener
from snapcore.registry.ranges import BlobRanges, HostRanges, RangePatience
from snapcore.registry.referrers import Artifact, Publisher, list_referrers
from snapcore.registry.resolve import find
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import Source
from snapcore.registry.transport import Transport
from snapcore.registry.upload import CHUNK_BYTES, Target

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
        pause: seconds that a host which fails is left alone.
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
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._pause: Final = pause
        self._store: Final = store
        self._hosts: Final = hosts or DefaultHosts()
        self._transport: Final = transport or Transport()
        self._authorizer: Final = Authorizer(self._transport, credentials, clock)
        self._policy: Final = policy or RetryPolicy()
        self._requests_per_host: Final = requests_per_host
        self._known: Final[dict[str, Mirrors]] = {}
        self._limiters: Final[dict[str, trio.CapacityLimiter]] = {}

    async def resolve(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Ask the registry, or a mirror that is trusted with it, what a reference is now.

        Args:
            reference: its digest wins over its tag.

        Returns:
            The descriptor of the manifest or index, and its bytes; they are stored as well.

        Raises:
            NotFound: no host knows it.
            DigestMismatch: what is served is not what the reference or the header names.
            RefusedInput: not a manifest or index, schema 1, or larger than 4 MiB.
            FailedPrecondition: no host is trusted to say what a tag is.
            Others: as `fetch`.
        """
        needed = [Capability.PULL]
        if reference.digest is None:
            needed.append(Capability.RESOLVE)

        async def ask(host: HostConfig, last: bool) -> tuple[Descriptor, bytes]:
            descriptor, data = await find(self._fetcher(host, reference, last), reference)
            if data is None:
                # From a mirror even if the registry itself had to say what the tag is.
                data = await self._document(descriptor, reference)
            return descriptor, data

        mirrors = await self._mirrors(reference.host)
        return await mirrors.first(needed, repr(str(reference)), ask)

    async def fetch(
        self, descriptor: Descriptor, reference: Reference, progress: Progress | None = None
    ) -> ContentInfo:
        """Bring a blob of a reference's repository into the store, verified, and return it.

        Args:
            descriptor: what to fetch. Its `urls` are never followed.
            reference: names the repository.
            progress: see `Progress`; not called for a blob that is there already, or that
                somebody else is downloading.

        Raises:
            As `Fetcher.fetch`; with several hosts as `Mirrors.first`.
        """

        async def ask(host: HostConfig, last: bool) -> ContentInfo:
            return await self._fetcher(host, reference, last).fetch(descriptor, progress)

        mirrors = await self._mirrors(reference.host)
        what = f"{str(descriptor.digest)!r} of {f'{reference.host}/{reference.repository}'!r}"
        return await mirrors.first((Capability.PULL,), what, ask)

    async def ranges(
        self, blob: Descriptor, reference: Reference, patience: RangePatience | None = None
    ) -> BlobRanges:
        """Return what reads pieces of a blob of a reference's repository; asks nobody yet.

        Args:
            blob: what to read from. Its `urls` are never followed.
            reference: names the repository.
            patience: how long to wait.

        Raises:
            FailedPrecondition: no host of the registry is trusted with pulls.
        """
        mirrors = await self._mirrors(reference.host)
        hosts = {
            host: HostRanges(self._source(host, reference), blob, self._transport)
            for host in mirrors.capable(Capability.PULL)
        }
        return BlobRanges(blob, hosts, mirrors, self._policy, self._limiter, patience)

    async def push(
        self,
        image: Outgoing,
        destination: Reference,
        listener: PushListener,
        chunk: int = CHUNK_BYTES,
    ) -> None:
        """Push an image of the store; see `Pusher.push`.

        Args:
            image: the image.
            destination: what it shall be called there.
            listener: told of each blob.
            chunk: most bytes of one request.

        Raises:
            InvalidArgument: `destination` has a digest that is not the image's.
            FailedPrecondition: no host of the registry is trusted with pushes.
        """
        if destination.digest not in (None, image.root.digest):
            raise InvalidArgument(
                f"{str(destination)!r} cannot name an image whose digest is {image.root.digest}"
            )
        target = await self._target(destination)
        limiter = self._limiter(target.source.host)
        pusher = Pusher(self._store, target, self._policy, limiter, listener, chunk)
        await pusher.push(image, destination.tag)

    async def referrers(
        self, reference: Reference, subject: Digest, artifact_type: str = ""
    ) -> tuple[Descriptor, ...]:
        """Return the manifests that refer to another one of a reference's repository.

        Args:
            reference: names the repository.
            subject: digest of the manifest or index that they refer to.
            artifact_type: leave all others out; "" for every type.

        Raises:
            FailedPrecondition: no host is trusted to say so; it takes what resolving takes.
            RefusedInput: the answer is malformed, or more than 1000 refer to it.
            PermissionDenied, Unavailable: the answer, or none.
        """

        async def ask(host: HostConfig, last: bool) -> tuple[Descriptor, ...]:
            work = partial(list_referrers, self._source(host, reference), subject, artifact_type)
            policy = self._policy if last else replace(self._policy, attempts=1)
            return await policy.run(partial(run_blocking, work, self._limiter(host)))

        mirrors = await self._mirrors(reference.host)
        needed = (Capability.PULL, Capability.RESOLVE)
        return await mirrors.first(needed, f"referrers of {str(subject)!r}", ask)

    async def attach(self, artifact: Artifact, destination: Reference) -> Descriptor:
        """Publish something about an image; see `Publisher.publish`.

        Args:
            artifact: what, and about which manifest or index.
            destination: names the repository; tag and digest do not count.

        Raises:
            FailedPrecondition: no host of the registry is trusted with pushes.
        """
        target = await self._target(destination)
        publisher = Publisher(target, self._policy, self._limiter(target.source.host))
        return await publisher.publish(artifact)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def source(self, reference: Reference, *needed: Capability) -> Source:
        """Return a reference's repository at the first capable host, for requests of one's own.

        Blocks while the host's configuration is read.

        Raises:
            FailedPrecondition: no host has the capabilities.
        """
        mirrors = Mirrors(reference.host, self._hosts(reference.host))
        return self._source(mirrors.capable(*needed)[0], reference)

    async def _target(self, destination: Reference) -> Target:
        source = await run_blocking(partial(self.source, destination, Capability.PUSH))
        return Target(source, self._transport)

    async def _document(self, descriptor: Descriptor, reference: Reference) -> bytes:
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise RefusedInput(
                f"document {str(descriptor.digest)!r} is {descriptor.size} bytes;"
                f" at most {MAX_DOCUMENT_BYTES} are read"
            )
        await self.fetch(descriptor, reference)
        return await run_blocking(partial(self._store.read_blob, descriptor, MAX_DOCUMENT_BYTES))

    async def _mirrors(self, host: str) -> Mirrors:
        if host not in self._known:
            hosts = await run_blocking(partial(self._hosts, host))
            self._known.setdefault(host, Mirrors(host, hosts, self._pause))
        return self._known[host]

    def _source(self, host: HostConfig, reference: Reference) -> Source:
        return Source(host, reference.repository, self._authorizer)

    def _fetcher(self, host: HostConfig, reference: Reference, last: bool) -> Fetcher:
        limiter = self._limiter(host)
        # Patience is for the last host: before it, the next one is the better try.
        policy = self._policy if last else replace(self._policy, attempts=1)
        return Fetcher(self._store, self._source(host, reference), policy, limiter)

    def _limiter(self, host: HostConfig) -> trio.CapacityLimiter:
        return self._limiters.setdefault(
            host.endpoint, trio.CapacityLimiter(self._requests_per_host)
        )
