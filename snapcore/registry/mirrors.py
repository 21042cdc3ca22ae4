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
from snapcore.registry.hosts import Capability, HostConfig, capable

STRIKES: Final = 3
"""After so many failures in a row a mirror that does not serve is not asked again."""
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
    """

    def __init__(self, registry: str, hosts: Sequence[HostConfig]) -> None:
        self._registry: Final = registry
        self._hosts: Final = tuple(hosts)
        self._strikes: Final[dict[HostConfig, int]] = {}

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

    async def first(self, needed: Sequence[Capability], what: str, ask: Ask[_T]) -> _T:
        """Ask the hosts in order and return the first good answer.

        Args:
            needed: the hosts that cannot do all of this are left out.
            what: names the thing asked for, in messages.
            ask: asks one host.

        Raises:
            FailedPrecondition: no host may do what is needed.
            NotFound, PermissionDenied, Unavailable, DigestMismatch, RefusedInput: all failed. The
                class is that of the last host's error, which is the registry itself; the message
                names each host with its reason.
            Others: as `ask`, from whichever host; they are not about the host.
        """
        capable_hosts = self.capable(*needed)
        hosts = [host for host in capable_hosts[:-1] if self._strikes.get(host, 0) < STRIKES]
        hosts.append(capable_hosts[-1])
        failures: list[tuple[HostConfig, SnapcoreError]] = []
        for host in hosts:
            try:
                answer = await ask(host, host is hosts[-1])
            except _FALL_THROUGH as error:
                self._note(host, error)
                failures.append((host, error))
                if host is not hosts[-1]:
                    _LOG.info("%s from mirror %s: %s; trying the next", what, host.base_url, error)
            else:
                self._strikes.pop(host, None)
                return answer
        raise _summary(what, failures, len(capable_hosts) - len(hosts))

    def _note(self, host: HostConfig, error: SnapcoreError) -> None:
        # A mirror that merely lacks something answers at once; one that is down costs a timeout.
        if isinstance(error, Unavailable):
            self._strikes[host] = self._strikes.get(host, 0) + 1


def _summary(
    what: str, failures: Sequence[tuple[HostConfig, SnapcoreError]], skipped: int
) -> SnapcoreError:
    last = failures[-1][1]
    if len(failures) == 1 and not skipped:
        return last
    reasons = [f"{host.base_url}: {error}" for host, error in failures]
    if skipped:
        reasons.insert(0, f"{skipped} left out after {STRIKES} failures")
    error = type(last)(f"no host could serve {what}: " + "; next, ".join(reasons))
    error.__cause__ = last
    return error
