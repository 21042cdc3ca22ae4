"""Authorised requests to a registry: challenge, token, one refresh.

The flow is that of the distribution specification's token authentication. A request first goes
out with what is known for its (endpoint, scope); a 401 brings a challenge, the challenge a token or
Basic credentials, and the request goes out once more. A second 401 is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final

from snapcore.errors import PermissionDenied
from snapcore.registry.challenge import Challenge, parse_challenges
from snapcore.registry.credentials import Credentials, CredentialSource, anonymous
from snapcore.registry.hosts import HostConfig
from snapcore.registry.network import Reach
from snapcore.registry.response import Response
from snapcore.registry.token import Token, TokenRequest, fetch_token
from snapcore.registry.transport import Request, Transport, origin

_Key = tuple[str, tuple[str, str, int], str]


@dataclass(slots=True)
class _Slot:
    """What is known for one (host, origin, scope); its lock makes one thread ask for all."""

    lock: Lock = field(default_factory=Lock)
    header: str = ""
    expires: float = 0.0


@dataclass(frozen=True, slots=True)
class _Challenged:
    """What a 401 demands, and where its sender may send us for a token."""

    challenges: tuple[Challenge, ...]
    reach: Reach


def pull_scope(repository: str) -> str:
    """Return the token scope for reading `repository`."""
    return f"repository:{repository}:pull"


class Authorizer:
    """Sends requests with the right Authorization; thread-safe.

    Args:
        transport: sends them.
        source: knows the credentials; asked once for each host and token.
        clock: monotonic seconds, for the expiry of tokens.
    """

    def __init__(
        self,
        transport: Transport,
        source: CredentialSource = anonymous,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport: Final = transport
        self._source: Final = source
        self._clock: Final = clock
        self._lock: Final = Lock()
        self._slots: Final[dict[_Key, _Slot]] = {}

    def send(self, request: Request, host: HostConfig, scope: str) -> Response:
        """Send a request to a registry, authorised as it demands.

        Args:
            request: its URL is below `host.api_url`.
            host: the registry.
            scope: what the request needs, such as `repository:NAME:pull`.

        Returns:
            The response; a 401 is never returned.

        Raises:
            PermissionDenied: the registry or its token server refused us.
            Unavailable: as `Transport.send`.
        """
        slot = self._slot((host.name, origin(request.url), scope))
        header = slot.header if self._clock() < slot.expires else ""
        response = self._transport.send(replace(request, authorization=header))
        if response.status != 401:
            return response
        with response:
            challenge = _Challenged(
                parse_challenges(response.headers.get("WWW-Authenticate", "")), response.reach
            )
            answered_here = origin(response.url) == origin(request.url)
            response.discard()
        if not answered_here:
            # Credentials are the registry's alone; a host it redirects to gets none.
            raise PermissionDenied(f"the host that {host.name!r} redirects to wants credentials")
        renewed = self._renew(slot, header, challenge, host, scope)
        response = self._transport.send(replace(request, authorization=renewed))
        if response.status != 401:
            return response
        response.close()
        self._forget(slot, renewed)
        raise PermissionDenied(
            f"registry {host.name!r} refused access ({scope});"
            " check the name and log in with other credentials"
        )

    def _slot(self, key: _Key) -> _Slot:
        with self._lock:
            return self._slots.setdefault(key, _Slot())

    def _renew(
        self,
        slot: _Slot,
        refused: str,
        challenged: _Challenged,
        host: HostConfig,
        scope: str,
    ) -> str:
        with slot.lock:
            fresh = slot.header != refused and self._clock() < slot.expires
            if not fresh:
                # Asked before the token is: its lifetime must not seem longer than it is.
                now = self._clock()
                token = self._answer(challenged, host, scope)
                slot.header, slot.expires = token.header, now + token.lifetime
            return slot.header

    def _forget(self, slot: _Slot, header: str) -> None:
        with slot.lock:
            if slot.header == header:
                slot.header, slot.expires = "", 0.0

    def _answer(self, challenged: _Challenged, host: HostConfig, scope: str) -> Token:
        by_scheme = {item.scheme: item for item in reversed(challenged.challenges)}
        credentials = self._source(host.name)
        bearer = by_scheme.get("bearer")
        if bearer is not None:
            request = TokenRequest.from_challenge(bearer, host, scope, challenged.reach)
            return fetch_token(self._transport, request, credentials)
        if "basic" in by_scheme:
            return _basic(credentials, host)
        raise PermissionDenied(
            f"registry {host.name!r} wants an authentication we cannot do"
            f" ({', '.join(by_scheme)[:100] or 'it does not say which'})"
        )


def _basic(credentials: Credentials | None, host: HostConfig) -> Token:
    if credentials is None or not credentials.username:
        raise PermissionDenied(
            f"registry {host.name!r} wants a user name and password; log in, or give credentials"
        )
    return Token(credentials.basic(), float("inf"))
