"""urllib3's connection pools, one set for each proxy and trust setting."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from snapcore.registry.hosts import Tls
from snapcore.registry.interrupt import register_socket

_ORIGINS: Final = 16


class _Connection(HTTPConnection):
    """A connection whose socket can be shut down by a cancel while we wait on it."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        register_socket(self.sock)
        return super().getresponse()


class _TlsConnection(HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        # Without verification only where the operator asked; urllib3 would warn at each request.
        self.is_verified = True

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        register_socket(self.sock)
        return super().getresponse()


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class PoolCache:
    """Makes pool managers when they are first needed; guarded by its user.

    Args:
        max_connections: connections kept open to one origin.
    """

    def __init__(self, max_connections: int) -> None:
        self._max_connections: Final = max_connections
        self._managers: Final[dict[tuple[str, Tls], urllib3.PoolManager]] = {}

    def manager(self, proxy: str, tls: Tls) -> urllib3.PoolManager:
        """Return the manager for requests through `proxy` ("" for none) with `tls`."""
        key = (proxy, tls)
        if key not in self._managers:
            self._managers[key] = self._build(proxy, tls)
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

    def _build(self, proxy: str, tls: Tls) -> urllib3.PoolManager:
        context = tls.context()
        manager: urllib3.PoolManager
        if proxy:
            manager = urllib3.ProxyManager(
                _without_userinfo(proxy),
                num_pools=_ORIGINS,
                proxy_headers=_proxy_headers(proxy),
                maxsize=self._max_connections,
                ssl_context=context,
            )
        else:
            manager = urllib3.PoolManager(
                num_pools=_ORIGINS, maxsize=self._max_connections, ssl_context=context
            )
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
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
