"""Pieces of a blob, each by one request, in bounded time, from whichever host serves them.

Nothing read here is verified, since a digest covers whole blobs: the reader must know what a
piece has to be, and says so with `BlobRanges.distrust` when it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from snapcore.errors import DataLoss, DigestMismatch, InvalidArgument, Unavailable
from snapcore.oci import Descriptor
from snapcore.registry.auth import pull_scope
from snapcore.registry.failures import Transient
from snapcore.registry.hosts import Capability, HostConfig
from snapcore.registry.interrupt import checkpoint, run_blocking
from snapcore.registry.mirrors import Mirrors
from snapcore.registry.response import Response, TooSlow
from snapcore.registry.retry import RetryPolicy
from snapcore.registry.source import Source, refusal
from snapcore.registry.transport import Request, Transport, origin

MAX_SKIPPED: Final = 256 * 1024
"""A whole body in answer to a range is read from its beginning up to here, no farther."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,19})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class RangePatience:
    """How long one read may take.

    Attributes:
        deadline: seconds until it has ended, whatever happens.
        stall: seconds without a single byte, or for a connection, that end one try.
    """

    deadline: float = 30.0
    stall: float = 8.0


class HostRanges:
    """One blob at one host. Blocks; may be used by several threads.

    Where the registry redirects to is remembered until it fails, so that a piece costs one
    request; such addresses expire, and are then asked for anew.

    Args:
        source: the repository there.
        blob: the blob.
        transport: sends what goes to a remembered address.
    """

    def __init__(self, source: Source, blob: Descriptor, transport: Transport) -> None:
        self.source: Final = source
        self._transport: Final = transport
        self._size: Final = blob.size
        self._url: Final = source.blob_url(blob.digest)
        self._what: Final = f"{str(blob.digest)!r} of {str(source)!r}"
        self._moved: Request | None = None

    def take(self, offset: int, size: int, have: bytearray, stall: float) -> None:
        """Make one request for what is missing of a range, and append what it brings.

        Args:
            offset: of the range in the blob.
            size: of the range.
            have: its bytes so far.
            stall: seconds of silence that end the try.

        Raises:
            Transient: nothing new came; another try may bring something.
            DigestMismatch: the host has a blob of another size.
            NotFound, PermissionDenied, Unavailable: the host's answer.
        """
        before = len(have)
        first, last = offset + before, offset + size - 1
        try:
            with self._send(f"bytes={first}-{last}", stall) as response:
                self._copy(response, first, offset + size, have)
        except Transient as error:
            self._moved = None
            if len(have) == before or isinstance(error, TooSlow):
                raise
        if len(have) == before:
            raise Transient(f"the registry's answer for {self._what} is empty")

    def forget_redirect(self) -> None:
        """Ask the registry itself next time."""
        self._moved = None

    def _send(self, wanted: str, stall: float) -> Response:
        moved = self._moved
        if moved is not None:
            # Taken back before it is tried: whatever goes wrong, the registry is asked next.
            self._moved = None
            response = self._request(replace(moved, read_timeout=stall), wanted)
            if response.status == 206:
                self._moved = moved
            if response.status < 400 or response.status in (408, 429) or response.status >= 500:
                return response
            with response:
                response.discard()
        host = self.source.host
        base = Request.to_host(host, "GET", self._url, {})
        connect = min(host.connect_timeout or stall, stall)
        response = self._request(replace(base, read_timeout=stall, connect_timeout=connect), wanted)
        if response.status == 206 and response.url != self._url:
            self._moved = replace(
                base.to_other(response.url, response.within), connect_timeout=connect
            )
        return response

    def _request(self, request: Request, wanted: str) -> Response:
        host = self.source.host
        ready = replace(request, headers={"Range": wanted})
        if origin(ready.url) != origin(host.base_url):
            return self._transport.send(ready)
        return self.source.authorizer.send(ready, host, pull_scope(self.source.repository))

    def _copy(self, response: Response, first: int, end: int, have: bytearray) -> None:
        skip = self._skipped(response, first, end)
        response.check_plain(self._what)
        missing = end - first
        while missing and (data := response.read_some()):
            checkpoint()
            dropped = min(skip, len(data))
            skip -= dropped
            fresh = data[dropped : dropped + missing]
            have += fresh
            missing -= len(fresh)

    def _skipped(self, response: Response, first: int, end: int) -> int:
        """Return how many bytes of the body come before the wanted ones."""
        if response.status == 206:
            self._check_range(response, first, end)
            return 0
        if response.status == 416:
            found = _UNSATISFIED.match(response.headers.get("Content-Range", "").strip())
            self._check_size(found[1] if found else "*")
            raise Unavailable(f"registry refuses a range that lies in {self._what} (HTTP 416)")
        if response.status != 200:
            raise refusal(response, self._what)
        self._check_size(response.headers.get("Content-Length", "").strip())
        if first > MAX_SKIPPED:
            raise Unavailable(f"registry does not support ranges: it sends all of {self._what}")
        return first

    def _check_range(self, response: Response, first: int, end: int) -> None:
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != first or not first <= int(found[2]) < end:
            raise Transient(f"registry answered another range of {self._what} than asked for")
        self._check_size(found[3])

    def _check_size(self, said: str) -> None:
        if said.isascii() and said.isdigit() and int(said[:20]) != self._size:
            raise DigestMismatch(
                f"the registry has {said[:20]} bytes for {self._what}, not {self._size}"
            )


class BlobRanges:
    """Reads ranges of one blob from a registry's hosts. For one trio run; not thread-safe.

    Made by `RegistryClient.ranges`.

    Args:
        blob: the blob.
        hosts: the same blob at each capable host.
        mirrors: these hosts, and which of them to leave alone.
        policy: tries at the last host; each other has one.
        limiter: returns what counts the requests to a host.
        patience: how long to wait.
    """

    def __init__(
        self,
        blob: Descriptor,
        hosts: Mapping[HostConfig, HostRanges],
        mirrors: Mirrors,
        policy: RetryPolicy,
        limiter: Callable[[HostConfig], trio.CapacityLimiter],
        patience: RangePatience | None = None,
    ) -> None:
        self.blob: Final = blob
        self._hosts: Final = hosts
        self._mirrors: Final = mirrors
        self._policy: Final = policy
        self._limiter: Final = limiter
        self._patience: Final = patience or RangePatience()
        self._served: HostConfig | None = None

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the blob.

        Args:
            offset: of the first one.
            size: how many, at least 1.

        Returns:
            Exactly `size` bytes, unverified.

        Raises:
            InvalidArgument: the range is not within the blob.
            NotFound: no host has the blob.
            PermissionDenied: access was refused.
            DataLoss: what is served has another size than the blob.
            Unavailable: no answer within the deadline, or every host failed so often just now
                that none is asked.
        """
        if size < 1 or offset < 0 or offset + size > self.blob.size:
            raise InvalidArgument(
                f"no range of {str(self.blob.digest)!r} ({self.blob.size} bytes):"
                f" {size} bytes at {offset}"
            )
        what = f"{size} bytes at {offset} of {str(self.blob.digest)!r}"
        end = trio.current_time() + self._patience.deadline
        ask = partial(self._ask, offset, size, end)
        try:
            return await self._mirrors.first((Capability.PULL,), what, ask, insist=False)
        except DigestMismatch as error:
            raise DataLoss(str(error)) from error

    def distrust(self) -> None:
        """Say that bytes read lately proved wrong: who sent them is passed over for a while.

        A mirror is left alone; the registry itself is asked even so, but not where it redirected
        to. With several reads at the same time the blame may go to the wrong host; then the
        reads go to another one without need.
        """
        served = self._served
        if served is not None:
            self._hosts[served].forget_redirect()
            if served is not self._mirrors.capable(Capability.PULL)[-1]:
                self._mirrors.breaker(served).distrust()

    async def _ask(self, offset: int, size: int, end: float, host: HostConfig, last: bool) -> bytes:
        have = bytearray()
        # A mirror that hangs must leave time for the next host.
        left = end - trio.current_time()
        share = left if last else left / 2
        policy = self._policy if last else replace(self._policy, attempts=1)
        with trio.move_on_after(share):
            while len(have) < size:
                await policy.run(partial(self._step, host, offset, size, have, end))
            self._served = host
            return bytes(have)
        raise Unavailable(
            f"{host.base_url!r} did not send {size} bytes at {offset} of"
            f" {str(self.blob.digest)!r} within {share:.1f} s"
        )

    async def _step(
        self, host: HostConfig, offset: int, size: int, have: bytearray, end: float
    ) -> None:
        work = partial(self._hosts[host].take, offset, size, have, self._patience.stall)
        try:
            await run_blocking(work, self._limiter(host))
        except Transient as error:
            if error.retry_after is not None and trio.current_time() + error.retry_after >= end:
                # Waiting for what comes too late would only keep the next host from being asked.
                raise Unavailable(str(error)) from error
            raise
