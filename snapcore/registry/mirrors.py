"""The hosts that serve one registry's repositories, asked one after the other.

Nothing rests on a mirror's word: what it sends is checked against a digest, and a tag is looked up
only where the operator trusts the answer. So whatever goes wrong at one host, the next is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from snapcore.errors import (
    DigestMismatch,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    RefusedInput,
    SnapcoreError,
    Unavailable,
)
from snapcore.registry.breaker import PAUSE_SECONDS, STRIKES, Breaker
from snapcore.registry.hosts import Capability, HostConfig, capable

_FALL_THROUGH: Final = (NotFound, PermissionDenied, Unavailable, DigestMismatch, RefusedInput)
_LOG: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
Ask = Callable[[HostConfig, bool], Awaitable[_T]]
"""Called with a host and whether it is the last one; returns what it serves."""


class Mirrors:
    """A registry's hosts in order. For one trio run; not thread-safe.

    Args:
        registry: the host as references write it.
        hosts: the mirrors, and the registry itself as the last one.
        pause: seconds that a host which fails is left alone.
    """

    def __init__(
        self, registry: str, hosts: Sequence[HostConfig], pause: float = PAUSE_SECONDS
    ) -> None:
        self._registry: Final = registry
        self._hosts: Final = tuple(hosts)
        self._breakers: Final = {host: Breaker(pause=pause) for host in self._hosts}
        self._told: Final[set[HostConfig]] = set()

    def capable(self, *needed: Capability) -> tuple[HostConfig, ...]:
        """Return the hosts that may do all that is needed.

        Raises:
            FailedPrecondition: there is none.
        """
        hosts = capable(self._hosts, needed)
        if not hosts:
            raise FailedPrecondition(
                f"no host of registry {self._registry!r} has the capabilities"
                f" {', '.join(needed)}: add them in its hosts.toml"
            )
        return hosts

    def breaker(self, host: HostConfig) -> Breaker:
        """Return what is known of the health of one of the hosts."""
        return self._breakers[host]

    async def first(
        self, needed: Sequence[Capability], what: str, ask: Ask[_T], *, insist: bool = True
    ) -> _T:
        """Ask the hosts in order and return the first good answer.

        A host that failed several times in a row is left out for a while (see `Breaker`).

        Args:
            needed: the hosts that cannot do all of this are left out.
            what: names the thing asked for, in messages.
            ask: asks one host.
            insist: ask the registry itself even so; else, with all of them left out, fail at once.

        Raises:
            FailedPrecondition: no host may do what is needed.
            NotFound, PermissionDenied, Unavailable, DigestMismatch, RefusedInput: all failed. The
                class is that of the last host's error, which is the registry itself; the message
                names each host with its reason.
            Others: as `ask`, from whichever host; they are not about the host.
        """
        hosts = self.capable(*needed)
        failures: list[tuple[HostConfig, SnapcoreError]] = []
        for host in hosts:
            breaker, last = self._breakers[host], host is hosts[-1]
            if not breaker.admits() and not (last and insist):
                continue
            try:
                answer = await ask(host, last)
            except _FALL_THROUGH as error:
                # One that merely lacks something answers at once; one that is down costs a timeout.
                if isinstance(error, Unavailable):
                    breaker.failed()
                failures.append((host, error))
                if not last:
                    self._tell(host, what, error)
            else:
                breaker.succeeded()
                return answer
        raise _summary(what, failures, len(hosts) - len(failures))

    def _tell(self, host: HostConfig, what: str, error: SnapcoreError) -> None:
        # That a mirror lacks something is its everyday; anything else is told, but once.
        told = isinstance(error, NotFound) or host in self._told
        if not told:
            self._told.add(host)
        level = logging.INFO if told else logging.WARNING
        _LOG.log(level, "%s from mirror %s: %s; trying the next", what, host.base_url, error)


def _summary(
    what: str, failures: Sequence[tuple[HostConfig, SnapcoreError]], skipped: int
) -> SnapcoreError:
    if not failures:
        return Unavailable(f"cannot serve {what}: every host failed {STRIKES} times just now")
    last = failures[-1][1]
    if len(failures) == 1 and not skipped:
        return last
    reasons = [f"{host.base_url}: {error}" for host, error in failures]
    if skipped:
        reasons.insert(0, f"{skipped} left out after {STRIKES} failures")
    error = type(last)(f"no host could serve {what}: " + "; next, ".join(reasons))
    error.__cause__ = last
    return error
