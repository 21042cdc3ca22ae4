"""Programs between a client and a server: they watch, cut, delay, or are a proxy.

All run on loopback, in threads of their own, and end with their `with` block.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Self

_PIECE: Final = 1 << 16
_MOST_HEAD: Final = 1 << 16


class TcpServer:
    """Hands each connection to a function, in a thread of its own; a context manager.

    Args:
        serve: gets the connection, which is closed when it returns.
        tls: speak TLS with whoever connects.

    Attributes:
        closing: set when the server stops.
    """

    def __init__(
        self, serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._serve: Final = serve
        self._tls: Final = tls
        self._lock: Final = threading.Lock()
        self._sockets: Final[set[socket.socket]] = set()
        self._threads: Final[list[threading.Thread]] = []
        self._listener: Final = socket.create_server(("127.0.0.1", 0))
        self.closing: Final = threading.Event()
        self._accepting: Final = threading.Thread(target=self._accept)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with self._lock:
            for opened in (self._listener, *self._sockets):
                with suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def connect(self, host: str) -> socket.socket:
        """Connect to `ADDRESS:PORT`; the connection ends with the server."""
        address, _, port = host.rpartition(":")
        return self._known(socket.create_connection((address, int(port))))

    def _known(self, opened: socket.socket) -> socket.socket:
        with self._lock:
            self._sockets.add(opened)
            if self.closing.is_set():
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
        return opened

    def _accept(self) -> None:
        with suppress(OSError):  # the listener's shutdown
            while True:
                thread = threading.Thread(target=self._handle, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _handle(self, connection: socket.socket) -> None:
        # Clients that go away are what many tests are about.
        with suppress(OSError), connection:
            if self._tls is None:
                self._serve(self._known(connection))
                return
            with self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as wrapped:
                self._known(wrapped)
                wrapped.do_handshake()
                self._serve(wrapped)


class Relay:
    """A wire to a server: it remembers what the client sent, and breaks when told to.

    Args:
        target: `ADDRESS:PORT` of the server.
    """

    def __init__(self, target: str) -> None:
        self._target: Final = target
        self._breaks: Final[list[tuple[bytes, int]]] = []
        self.server: Final = TcpServer(self._serve)
        self.sent: Final[list[bytes]] = []

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return self.server.host

    def break_after(self, marker: bytes, count: int) -> None:
        """Break the next connection that sends `marker`, so many bytes after it."""
        self._breaks.append((marker, count))

    def requests(self, method: str) -> list[str]:
        """Return the request lines of a method so far, in order, without the protocol."""
        lines = b"".join(self.sent).split(b"\r\n")
        found = [line.decode("latin-1") for line in lines if line.endswith(b" HTTP/1.1")]
        # A request that follows a body stands behind it on the same line.
        return [
            f"{method} {line.rpartition(f'{method} ')[2].removesuffix(' HTTP/1.1')}"
            for line in found
            if f"{method} /" in line
        ]

    def headers(self, name: str) -> list[str]:
        """Return the values of a header that the client sent, in order."""
        lines = b"".join(self.sent).split(b"\r\n")
        prefix = f"{name}: ".encode()
        return [line.removeprefix(prefix).decode() for line in lines if line.startswith(prefix)]

    def _serve(self, client: socket.socket) -> None:
        with self.server.connect(self._target) as server:
            left = -1

            def watch(piece: bytes) -> bytes:
                nonlocal left
                self.sent.append(piece)
                if left < 0 and self._breaks and self._breaks[0][0] in piece:
                    marker, left = self._breaks.pop(0)
                    left += piece.index(marker) + len(marker)
                if 0 <= left <= len(piece):
                    server.sendall(piece[:left])
                    raise ConnectionAbortedError
                left = left - len(piece) if left >= 0 else left
                return piece

            join(client, server, watch)


class ConnectProxy:
    """An HTTP proxy that knows CONNECT only, and a few names.

    Args:
        routes: `ADDRESS:PORT` by the `NAME:PORT` that clients ask for; others get a 502.
        authorization: the Proxy-Authorization that it wants; "" for none.
        tls: speak TLS with clients.

    Attributes:
        seen: the names that were asked for, and the Proxy-Authorization shown, in order.
    """

    def __init__(
        self,
        routes: Mapping[str, str],
        authorization: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._routes: Final = routes
        self._authorization: Final = authorization
        self.server: Final = TcpServer(self._serve, tls)
        self.seen: Final[list[tuple[str, str]]] = []

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return self.server.host

    def _serve(self, client: socket.socket) -> None:
        head = read_head(client)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        method, name, _ = first.split(" ")
        shown = headers.get("proxy-authorization", "")
        self.seen.append((name, shown))
        if shown != self._authorization:
            _answer(client, "407 Proxy Authentication Required")
        elif method != "CONNECT" or name not in self._routes:
            _answer(client, "502 Bad Gateway")
        else:
            with self.server.connect(self._routes[name]) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                join(client, server)


def _answer(client: socket.socket, status: str) -> None:
    client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


def read_head(connection: socket.socket) -> bytes:
    """Read a request's head, byte by byte so that nothing behind it is lost."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _MOST_HEAD:
        byte = connection.recv(1)
        if not byte:
            raise ConnectionAbortedError
        head += byte
    return head


def join(
    client: socket.socket,
    server: socket.socket,
    watch: Callable[[bytes], bytes] = lambda piece: piece,
) -> None:
    """Carry bytes both ways until one side closes.

    Args:
        client: one side.
        server: the other.
        watch: gets what the client sends, and returns what the server gets.
    """
    others = {client: server, server: client}
    while True:
        pending = [s for s in others if isinstance(s, ssl.SSLSocket) and s.pending()]
        for ready in pending or select.select(list(others), [], [])[0]:
            piece = ready.recv(_PIECE)
            if not piece:
                return
            others[ready].sendall(watch(piece) if ready is client else piece)


def trickle(begin: bytes, server: Callable[[], TcpServer]) -> Callable[[socket.socket], None]:
    """Return what to do with a connection: read a head, begin an answer, and never end it.

    Args:
        begin: what is sent at once; an `x` follows every 20 ms.
        server: called when a connection comes; tells when to stop.
    """

    def serve(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(begin)
        while not server().closing.wait(0.02):
            connection.sendall(b"x")

    return serve
