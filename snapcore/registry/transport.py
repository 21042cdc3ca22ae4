"""HTTP requests: pools, timeouts, proxies, and redirects by our own rules.

Everything here blocks and is meant for worker threads (see `snapcore.registry.interrupt`).
The rules for redirects: at most ten; only GET and HEAD follow them; never from https to http;
credentials stay with the origin (scheme, host and port) they were meant for, and so do a host's
own headers and our client certificate; and no answer sends us where its sender's network gives no
right to go (see `snapcore.registry.network`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final, cast
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
import urllib3.exceptions as wire

from snapcore.errors import Unavailable
from snapcore.registry.failures import from_wire, shown
from snapcore.registry.hosts import Headers, HostConfig, Tls
from snapcore.registry.network import (
    EVERYWHERE,
    Follow,
    Network,
    Reach,
    refused,
    same_network,
    spelled_network,
)
from snapcore.registry.pools import Guarded, PoolCache
from snapcore.registry.proxies import Proxies
from snapcore.registry.response import Response

MAX_REDIRECTS: Final = 10
USER_AGENT: Final = "snapcore/0.1"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_SHOWN: Final = 300
_PORTS: Final = {"http": 80, "https": 443}


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
        method: such as `GET`.
        url: absolute, http or https.
        headers: sent to every hop.
        authorization: the Authorization header, sent only to the origin of `url`; "" for none.
        body: for POST, PUT and PATCH.
        tls: trust settings; other origins than that of `url` get `Tls.for_others`.
        own_headers: as the operator configured them, sent only to the origin of `url`.
        connect_timeout: seconds to wait for a connection, None for the transport's.
        read_timeout: seconds without a single byte, None for the transport's.
        proxy: its URL, "" for none, None to choose by `Proxies`.
        reach: the networks that the first hop may connect to.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    tls: Tls = field(default_factory=Tls)
    own_headers: Headers = field(default=(), repr=False)
    connect_timeout: float | None = None
    read_timeout: float | None = None
    proxy: str | None = field(default=None, repr=False)
    reach: Reach = EVERYWHERE

    @classmethod
    def to_host(
        cls, host: HostConfig, method: str, url: str, headers: Mapping[str, str]
    ) -> Request:
        """Build a request for a URL below `host.api_url`, as that host is configured."""
        return cls(
            method,
            url,
            headers,
            tls=host.tls,
            own_headers=host.headers,
            connect_timeout=host.connect_timeout,
            proxy=host.proxy,
            reach=host.reach,
        )

    def to_other(self, url: str, reach: Reach) -> Request:
        """Return the request as it may go to another URL that a peer named.

        Args:
            url: where to.
            reach: the networks that the peer may send us to.
        """
        if origin(url) == origin(self.url):
            return replace(self, url=url, reach=reach)
        return replace(
            self, url=url, reach=reach, authorization="", own_headers=(), tls=self.tls.for_others()
        )


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of `url`: what credentials are bound to.

    Raises:
        Unavailable: `url` is not a usable absolute http(s) URL.
    """
    parts = _parse(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


class Transport:
    """Sends requests and follows redirects; thread-safe.

    Args:
        proxies: see `Proxies`.
        timeouts: see `Timeouts`.
        follow: decides where an answer may send us.
        clock: monotonic seconds, for the speed limit of bodies.
        max_connections: connections kept open to one origin.
    """

    def __init__(
        self,
        *,
        proxies: Proxies | None = None,
        timeouts: Timeouts | None = None,
        follow: Follow = same_network,
        clock: Callable[[], float] = time.monotonic,
        max_connections: int = 8,
    ) -> None:
        self._proxies: Final = proxies or Proxies()
        self._timeouts: Final = timeouts or Timeouts()
        self._follow: Final = follow
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
                current = _redirected(current, location, response.reach)
        raise Unavailable(f"more than {MAX_REDIRECTS} redirects from {shown(request.url)!r}")

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            self._pools.close()

    def _once(self, request: Request) -> Response:
        host = origin(request.url)[1]
        proxy = request.proxy
        if proxy is None:
            proxy = self._proxies.select(request.url)
        if proxy and spelled_network(host) not in request.reach:
            # The proxy looks names up, so only what is spelled out can be judged here.
            raise refused(host, [f"a {spelled_network(host).value} address"])
        with self._lock:
            manager = self._pools.manager(proxy, request.tls, request.reach)
        body = io.BytesIO(request.body) if request.body else None
        headers = _headers(request)
        if body is not None:
            # Sent piece by piece, so that the timeout counts for each and not for the whole.
            headers["Content-Length"] = str(len(request.body))
        timeouts = self._timeouts
        try:
            raw = manager.urlopen(
                request.method,
                request.url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(
                    connect=request.connect_timeout or timeouts.connect,
                    read=request.read_timeout or timeouts.read,
                ),
            )
        except (wire.HTTPError, OSError, ValueError) as error:
            raise from_wire(error, request.url) from error
        network = spelled_network(host) if proxy else _peer_network(raw)
        return Response(
            raw,
            request.url,
            timeouts.window,
            timeouts.min_rate,
            self._clock,
            self._follow(network),
            request.reach,
        )


def _headers(request: Request) -> urllib3.HTTPHeaderDict:
    headers = urllib3.HTTPHeaderDict({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    own = urllib3.HTTPHeaderDict()
    for name, value in request.own_headers:
        own.add(name, value)
    for name in own:
        headers.discard(name)
    headers.extend(own)
    headers.update(request.headers)
    if request.authorization:
        headers["Authorization"] = request.authorization
    return headers


def _peer_network(raw: urllib3.BaseHTTPResponse) -> Network:
    # Still there: nobody has read the body yet.
    return cast(Guarded, raw.connection).network


def _redirected(request: Request, location: str, reach: Reach) -> Request:
    here = shown(request.url)
    if request.method not in ("GET", "HEAD"):
        raise Unavailable(f"{here!r} redirects a {request.method}, which is not followed")
    target = _parse(urljoin(request.url, location), f"redirect from {here!r}")
    url = target.geturl()
    if origin(request.url)[0] == "https" and target.scheme == "http":
        raise Unavailable(f"{here!r} redirects from https to http ({shown(url)!r}): refused")
    return request.to_other(url, reach)


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
