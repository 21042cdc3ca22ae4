"""A registry of metrics over HTTP, for Prometheus to scrape."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from snapcore.errors import InvalidArgument, Unavailable

_log: Final = logging.getLogger("snapcore.service")
_MOST_CONNECTIONS: Final = 8
_PATIENCE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of `HOST:PORT`; an IPv6 address is in brackets.

    Raises:
        InvalidArgument: it is nothing of that form.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else -1
    if not bare or (":" in bare) != (bare != host) or not 0 <= number <= 65535:
        raise InvalidArgument(f"not an address to listen at: {address!r} (want HOST:PORT)")
    return bare, number


@contextmanager
def exposing(address: str, registry: CollectorRegistry) -> Iterator[str]:
    """Answer scrapes in threads of its own for the duration of a `with` block.

    Args:
        address: `HOST:PORT`; port 0 means a free one. Whoever reaches it may read.
        registry: what is told.

    Yields:
        The URL to scrape.

    Raises:
        InvalidArgument: the address is none.
        Unavailable: nothing can listen there.
    """
    host, port = host_and_port(address)
    try:
        (family, _, _, _, (number, *_)), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        server = _Server(family, (str(number), port), registry)
    except OSError as error:
        reason = error.strerror or error
        raise Unavailable(f"cannot listen at {address!r} for metrics: {reason}") from error
    bound, port = server.socket.getsockname()[:2]
    url = f"http://{f'[{bound}]' if ':' in bound else bound}:{port}/metrics"
    if not ipaddress.ip_address(bound).is_loopback:
        _log.warning("metrics can be read by whoever reaches %s", url)
    thread = threading.Thread(
        target=server.serve_forever, args=(_POLL_SECONDS,), name="snapcore-metrics"
    )
    thread.start()
    try:
        yield url
    finally:
        server.end()
        thread.join()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    request_queue_size = 2 * _MOST_CONNECTIONS

    def __init__(
        self, family: socket.AddressFamily, place: tuple[str, int], registry: CollectorRegistry
    ) -> None:
        self.address_family = family
        self.registry: Final = registry
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(place, _Handler)

    def end(self) -> None:
        """Hang up on all, and wait for their threads."""
        self.shutdown()
        with self._guard:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002
        """Tell whether there is room for another connection; else it is hung up on."""
        with self._guard:
            return len(self._open) < _MOST_CONNECTIONS

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        assert isinstance(request, socket.socket)
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Leave what a scraper does to itself out of stderr."""
        _log.debug("scrape from %s", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_SECONDS
    server_version = "snapcore"
    sys_version = ""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        if urlsplit(self.path).path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "there is only /metrics")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.server.registry)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Keep quiet: a scrape is nothing to tell."""
