"""HTTP requests: pools, timeouts, proxies, and redirects by our own rules.

Everything here blocks and is meant for worker threads (see `snapcore.registry.interrupt`).
The rules for redirects: at most ten; only GET and HEAD follow them; never from https to http;
credentials stay with the origin (scheme, host and port) they were meant for; and a registry
cannot send us to this machine's own loopback or link-local services.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
import urllib3.exceptions as wire

from snapcore.errors import Unavailable
from snapcore.registry.failures import from_wire, shown
from snapcore.registry.hosts import Tls
from snapcore.registry.pools import PoolCache
from snapcore.registry.proxies import Proxies, is_loopback, parse_address
from snapcore.registry.response import Response

MAX_REDIRECTS: Final = 10
USER_AGENT: Final = "snapcore/0.1"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_SHOWN: Final = 300
_PORTS: Final = {"http": 80, "https": 443}
RedirectPolicy = Callable[[str, str], bool]
"""Called with the old and the new host name; says whether the step is allowed."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds that end every stall.

    Attributes:
        connect: seconds for one TCP connection and TLS handshake step.
        read: seconds without a single byte.
        window: seconds after which a body's speed is judged, again and again.
        min_rate: bytes a second that a body must reach in each window; slower counts as a stall.
    """

    connect: float = 10.0
    read: float = 30.0
    window: float = 60.0
    min_rate: float = 256.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: `GET`, `HEAD` or `POST`.
        url: absolute, http or https.
        headers: sent to every hop.
        authorization: the Authorization header, sent only to the origin of `url`; "" for none.
        body: for POST.
        tls: trust settings, for every hop.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    tls: Tls = field(default_factory=Tls)


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of `url`: what credentials are bound to.

    Raises:
        Unavailable: `url` is not a usable absolute http(s) URL.
    """
    parts = _parse(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def public_steps_only(old_host: str, new_host: str) -> bool:
    """The default redirect policy: no way from elsewhere to our loopback or link-local range.

    Cloud metadata services and local daemons live there (server-side request forgery).
    """
    return not _is_local(new_host) or _is_local(old_host)


class Transport:
    """Sends requests and follows redirects; thread-safe.

    Args:
        proxies: see `Proxies`.
        timeouts: see `Timeouts`.
        policy: decides on redirects to other hosts.
        clock: monotonic seconds, for the speed limit of bodies.
        max_connections: connections kept open to one origin.
    """

    def __init__(
        self,
        *,
        proxies: Proxies | None = None,
        timeouts: Timeouts | None = None,
        policy: RedirectPolicy = public_steps_only,
        clock: Callable[[], float] = time.monotonic,
        max_connections: int = 8,
    ) -> None:
        self._proxies: Final = proxies or Proxies()
        self._timeouts: Final = timeouts or Timeouts()
        self._policy: Final = policy
        self._clock: Final = clock
        self._pools: Final = PoolCache(max_connections)
        self._lock: Final = Lock()

    def send(self, request: Request) -> Response:
        """Send a request, follow its redirects, and return the last response's head.

        The body is not read yet; close the response, or use it in a `with` block.

        Raises:
            Unavailable: no answer, a broken one, or a redirect that the rules forbid
                (`Transient`, a subclass, where trying again may help).
            ResourceExhausted: this process has too many open files.
            InvalidArgument: the trust settings name an unusable file.
        """
        current = request
        for _ in range(MAX_REDIRECTS + 1):
            response = self._once(current)
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                return response
            with response:
                response.discard()
                current = self._redirected(current, location)
        raise Unavailable(f"more than {MAX_REDIRECTS} redirects from {shown(request.url)!r}")

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            self._pools.close()

    def _once(self, request: Request) -> Response:
        origin(request.url)
        with self._lock:
            manager = self._pools.manager(self._proxies.select(request.url), request.tls)
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if request.authorization:
            headers["Authorization"] = request.authorization
        timeouts = self._timeouts
        try:
            raw = manager.urlopen(
                request.method,
                request.url,
                body=request.body or None,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=timeouts.connect, read=timeouts.read),
            )
        except (wire.HTTPError, OSError, ValueError) as error:
            raise from_wire(error, request.url) from error
        return Response(raw, request.url, timeouts.window, timeouts.min_rate, self._clock)

    def _redirected(self, request: Request, location: str) -> Request:
        here = shown(request.url)
        if request.method not in ("GET", "HEAD"):
            raise Unavailable(f"{here!r} redirects a {request.method}, which is not followed")
        target = _parse(urljoin(request.url, location), f"redirect from {here!r}")
        old_scheme, old_host, _ = old = origin(request.url)
        url = target.geturl()
        if old_scheme == "https" and target.scheme == "http":
            raise Unavailable(f"{here!r} redirects from https to http ({shown(url)!r}): refused")
        new_host = target.hostname or ""
        if new_host != old_host and not self._policy(old_host, new_host):
            raise Unavailable(f"{here!r} redirects to the local address {new_host!r}: refused")
        kept = request.authorization if origin(url) == old else ""
        return replace(request, url=url, authorization=kept)


def _is_local(host: str) -> bool:
    address = parse_address(host)
    if address is None:
        return is_loopback(host)
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _parse(url: str, what: str = "address") -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc
        usable = usable and (parts.port or 1) > 0 and not any(ord(c) < 33 for c in url)
    except ValueError:
        usable = False
    if not usable:
        raise Unavailable(f"unusable {what}: {shown(url)[:_MAX_SHOWN]!r}")
    return parts
