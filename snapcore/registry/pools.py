"""urllib3's connection pools, one set for each proxy, trust setting and reach."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import cache, partial
from typing import Final
from urllib.parse import unquote, urlsplit

import urllib3
import urllib3.exceptions as wire
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from snapcore.registry.head import LimitedResponse
from snapcore.registry.hosts import Tls
from snapcore.registry.interrupt import register_socket
from snapcore.registry.network import EVERYWHERE, Network, Reach, resolve

_ORIGINS: Final = 16


class Guarded(HTTPConnection):
    """A connection that goes to addresses within reach, and ends while we wait if it must.

    Attributes:
        network: where the address is that it is connected to.
    """

    response_class = LimitedResponse
    network = Network.PUBLIC

    def __init__(
        self, host: str, port: int | None = None, *, reach: Reach, **options: object
    ) -> None:
        super().__init__(host, port, **options)  # type: ignore[arg-type]  # urllib3's own
        self._reach: Final = reach

    def _new_conn(self) -> socket.socket:
        # As urllib3's own, but for the check between looking up and connecting.
        try:
            return self._connected()
        except socket.gaierror as error:
            raise wire.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise wire.ConnectTimeoutError(self, f"{self.host} does not answer") from error
        except UnicodeError as error:
            raise wire.LocationParseError(self.host) from error
        except OSError as error:
            raise wire.NewConnectionError(self, f"cannot connect: {error}") from error

    def _connected(self) -> socket.socket:
        failure = OSError("the host has no address")
        for endpoint in resolve(self._dns_host.strip("[]"), self.port, self._reach):
            try:
                connected = socket.socket(endpoint.family, socket.SOCK_STREAM)
            except OSError as error:
                failure = error
                continue
            try:
                for option in self.socket_options or ():
                    connected.setsockopt(*option)
                connected.settimeout(self.timeout)
                # Reached by a cancel from here on: also in the handshake, and in a proxy's answer.
                register_socket(connected)
                connected.connect(endpoint.address)
            except OSError as error:
                connected.close()
                failure = error
                continue
            self.network = endpoint.network
            return connected
        raise failure

    def send(self, data: object) -> None:
        """Send bytes, where a cancel can reach us."""
        register_socket(self.sock)
        super().send(data)  # type: ignore[arg-type]  # typeshed's union, which is private

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """Read a response's head, where a cancel can reach us."""
        register_socket(self.sock)
        return super().getresponse()


class _Tls(Guarded, HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        # Without verification only where the operator asked; urllib3 would warn at each request.
        self.is_verified = True


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = Guarded


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Tls


def _tls_pool(
    context: Callable[[], ssl.SSLContext], host: str, port: int, **options: object
) -> _TlsPool:
    options["ssl_context"] = context()
    return _TlsPool(host, port, **options)  # type: ignore[arg-type]  # as urllib3 was given them


class PoolCache:
    """Makes pool managers when they are first needed; guarded by its user.

    Args:
        max_connections: connections kept open to one origin.
    """

    def __init__(self, max_connections: int) -> None:
        self._max_connections: Final = max_connections
        self._managers: Final[dict[tuple[str, Tls, Reach], urllib3.PoolManager]] = {}

    def manager(self, proxy: str, tls: Tls, reach: Reach) -> urllib3.PoolManager:
        """Return the manager for some requests.

        Args:
            proxy: its URL, "" for none.
            tls: trust settings.
            reach: where connections may go; a proxy is reached wherever it is.
        """
        key = (proxy, tls, EVERYWHERE if proxy else reach)
        if key not in self._managers:
            self._managers[key] = self._build(*key)
        return self._managers[key]

    def close(self) -> None:
        """Close every idle connection."""
        for manager in self._managers.values():
            # Dropped pools close when they are collected: too late while an error's traceback
            # still refers to them.
            for key in manager.pools.keys():  # noqa: SIM118  it cannot be iterated
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
            manager.clear()
        self._managers.clear()

    def _build(self, proxy: str, tls: Tls, reach: Reach) -> urllib3.PoolManager:
        # Reading the system's authorities takes longer than a request, and http needs none.
        context = cache(tls.context)
        manager: urllib3.PoolManager
        if proxy:
            # A proxy's own certificate is always verified, and it is never shown ours.
            proxy_context = Tls(tls.ca_files).context() if proxy.startswith("https:") else None
            manager = urllib3.ProxyManager(
                _without_userinfo(proxy),
                num_pools=_ORIGINS,
                proxy_headers=_proxy_headers(proxy),
                maxsize=self._max_connections,
                proxy_ssl_context=proxy_context,
            )
        else:
            manager = urllib3.PoolManager(num_pools=_ORIGINS, maxsize=self._max_connections)
        # Called as the classes would be; each connection gets the reach beside urllib3's options.
        manager.pool_classes_by_scheme = {
            "http": partial(_Pool, reach=reach),  # type: ignore[dict-item]
            "https": partial(_tls_pool, context, reach=reach),  # type: ignore[dict-item]
        }
        return manager


def _without_userinfo(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _proxy_headers(proxy: str) -> dict[str, str]:
    userinfo = urlsplit(proxy).netloc.rpartition("@")[0]
    if not userinfo:
        return {}
    headers = urllib3.make_headers(proxy_basic_auth=unquote(userinfo))
    return dict(headers)
