"""Get a bearer token from the server that a registry names.

Two dialects: GET with query parameters, anonymous or Basic (distribution, "Token Authentication
Specification"), and POST with an OAuth2 refresh token ("OAuth2 Token Authentication").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from snapcore.errors import PermissionDenied, Unavailable
from snapcore.registry.challenge import Challenge
from snapcore.registry.credentials import Credentials
from snapcore.registry.failures import from_status, retry_after, shown
from snapcore.registry.hosts import HostConfig
from snapcore.registry.network import Reach
from snapcore.registry.response import Response
from snapcore.registry.transport import Request, Transport

CLIENT_ID: Final = "snapcore"
DEFAULT_LIFETIME: Final = 60.0
"""Seconds a token is good for when its server does not say (token specification)."""
MAX_TOKEN_BYTES: Final = 1024 * 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
# A server that knows only the GET dialect answers a POST with one of these.
_NO_OAUTH: Final = frozenset({400, 401, 404, 405, 501})


@dataclass(frozen=True, slots=True)
class Token:
    """What goes into the Authorization header.

    Attributes:
        header: the whole value.
        lifetime: seconds from the moment it was asked for.
    """

    header: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to ask for, and where.

    Attributes:
        registry: who wants it, for messages.
        realm: the token server's URL.
        service: the registry's name for itself; may be "".
        scopes: sorted, without repetition.
        base: the bare request to the realm. The registry vouches for its token server, so that
            its trust settings hold there as well.
    """

    registry: str
    realm: str
    service: str
    scopes: tuple[str, ...]
    base: Request

    @classmethod
    def from_challenge(
        cls, challenge: Challenge, host: HostConfig, scope: str, reach: Reach
    ) -> TokenRequest:
        """Build the request that answers `challenge`.

        Args:
            challenge: the registry's, scheme Bearer.
            host: the registry.
            scope: what we need besides what the challenge names; several are parted by spaces.
            reach: the networks that the challenger may send us to.

        Raises:
            PermissionDenied: the realm is missing or not https, though the registry is.
            Unavailable: the realm is no usable URL.
        """
        realm = challenge.parameters.get("realm", "")
        scheme = urlsplit(realm).scheme
        if scheme != "https" and not (scheme == "http" and host.plain_http):
            raise PermissionDenied(
                f"registry {host.name!r} names a token server without TLS"
                f" ({shown(realm)!r}): credentials are not sent there"
            )
        wanted = {*scope.split(), *challenge.parameters.get("scope", "").split()} - {""}
        service = challenge.parameters.get("service", "")
        base = Request.to_host(host, "GET", host.api_url, {}).to_other(realm, reach)
        return cls(host.name, realm, service, tuple(sorted(wanted)), base)


def fetch_token(
    transport: Transport, request: TokenRequest, credentials: Credentials | None
) -> Token:
    """Get a token.

    Args:
        transport: sends the request.
        request: what and where.
        credentials: None asks anonymously.

    Raises:
        PermissionDenied: the server refused.
        Unavailable: it did not answer, or not with a token.
    """
    if credentials is not None and credentials.identity_token:
        with transport.send(_post(request, credentials.identity_token)) as response:
            if response.status not in _NO_OAUTH or not credentials.username:
                return _read(response, request)
            response.discard()
    with transport.send(_get(request, credentials)) as response:
        return _read(response, request)


def _get(request: TokenRequest, credentials: Credentials | None) -> Request:
    query = [("scope", scope) for scope in request.scopes]
    if request.service:
        query.insert(0, ("service", request.service))
    authorization = ""
    if credentials is not None and credentials.username:
        query.append(("account", credentials.username))
        secret = Credentials(credentials.username, credentials.password)
        if not secret.password and credentials.identity_token:
            secret = Credentials(credentials.username, credentials.identity_token)
        authorization = secret.basic()
    joint = "&" if urlsplit(request.realm).query else "?"
    url = f"{request.realm}{joint}{urlencode(query)}" if query else request.realm
    return replace(request.base, url=url, authorization=authorization)


def _post(request: TokenRequest, refresh_token: str) -> Request:
    form = {
        "grant_type": "refresh_token",
        "service": request.service,
        "client_id": CLIENT_ID,
        "scope": " ".join(request.scopes),
        "refresh_token": refresh_token,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(form).encode("ascii")
    return replace(request.base, method="POST", headers=headers, body=body)


def _read(response: Response, request: TokenRequest) -> Token:
    what = f"token from {shown(request.realm)!r} for registry {request.registry!r}"
    if response.status != 200:
        wait = retry_after(response.headers.get("Retry-After", ""))
        raise from_status(response.status, what, response.first_bytes(), wait)
    body = response.read_all(MAX_TOKEN_BYTES, what)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Without a cause: the decoder's message may quote a token.
        raise Unavailable(f"malformed {what}") from None
    token = answer.token or answer.access_token
    if not _TOKEN.match(token):
        raise PermissionDenied(f"there is no {what}: the server's answer holds none")
    lifetime = DEFAULT_LIFETIME if answer.expires_in is None else answer.expires_in
    # A few seconds less, so that a token does not end on its way.
    return Token(f"Bearer {token}", max(lifetime, DEFAULT_LIFETIME) * 0.9)
