"""HTTP servers inside the test process, which misbehave exactly as told.

`HttpServer` calls a function for every request and records it. `FakeRegistry` answers as a
registry does (tests compare it with a real one) and spoils single answers by faults:

    with FakeRegistry() as registry:
        digest = registry.add_blob(b"layer")
        registry.spoil("/blobs/", cut(3), status(503))
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

from snapcore.oci import Descriptor, Digest

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in; header names are lower-case, `client` is its connection."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer.

    Attributes:
        status: the HTTP status.
        headers: Content-Length is added unless it is here or `chunked` is set.
        body: sent for every method but HEAD.
        cut: close the connection after so many bytes of the body; None sends all.
        stall: after `cut` bytes, send nothing more until the server closes.
        chunked: send in chunks, without a length.
    """

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    stall: bool = False
    chunked: bool = False


Fault = Callable[[Seen, Reply], Reply]


class HttpServer:
    """A server on loopback in threads of its own; a context manager.

    Attributes:
        seen: all requests so far.
    """

    def __init__(
        self, answer: Callable[[Seen], Reply], tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self._answer: Final = answer
        self._closing: Final = threading.Event()
        self._connections: Final[set[socket.socket]] = set()
        self._lock: Final = threading.Lock()
        self._tls: Final = tls
        self.seen: Final[list[Seen]] = []
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread: Final = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.005}
        )

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The server's URL without a path."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self.drop_all()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Seen) -> Reply:
        """Record a request and return what to answer."""
        with self._lock:
            self.seen.append(request)
        return self._answer(request)

    def drop_all(self) -> None:
        """Break all connections, those that stall among them."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def wait_until_closing(self) -> None:
        """Block a handler until the server stops."""
        self._closing.wait()

    @contextmanager
    def connected(self, connection: socket.socket) -> Iterator[None]:
        """Know a connection while it is handled."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what many tests are about."""


def _handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with server.connected(self.connection):
                super().handle()

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length) if length else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            client = str(self.client_address)
            self._send(server.answer(Seen(self.command, self.path, headers, body, client)))

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base class's names

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            headers = dict(reply.headers)
            if reply.chunked:
                headers["Transfer-Encoding"] = "chunked"
            elif "Content-Length" not in headers:
                headers["Content-Length"] = str(len(reply.body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                _send_body(self, reply, server)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
            """Say nothing."""

    return Handler


def _send_body(handler: BaseHTTPRequestHandler, reply: Reply, server: HttpServer) -> None:
    body = reply.body if reply.cut is None else reply.body[: reply.cut]
    if reply.chunked and body:
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    if reply.chunked and reply.cut is None:
        body += b"0\r\n\r\n"
    handler.wfile.write(body)
    handler.wfile.flush()
    if reply.stall:
        server.wait_until_closing()
    if reply.cut is not None or reply.stall:
        handler.close_connection = True


class FakeRegistry:
    """A registry with one repository's content, whatever the repository is called."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._blobs: Final[dict[str, bytes]] = {}
        self._manifests: Final[dict[str, tuple[str, bytes]]] = {}
        self._faults: Final[list[tuple[str, Fault]]] = []
        self._standing: Final[list[tuple[str, Fault]]] = []
        self._lock: Final = threading.Lock()
        self.server: Final = HttpServer(self._reply, tls, port)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return self.server.host

    def add_blob(self, data: bytes) -> Digest:
        """Serve a blob."""
        digest = Digest.of(data)
        self._blobs[str(digest)] = data
        return digest

    def add_manifest(self, data: bytes, media_type: str, tag: str = "latest") -> Descriptor:
        """Serve a document under a tag and its digest."""
        digest = Digest.of(data)
        for name in (tag, str(digest)):
            self._manifests[name] = (media_type, data)
        return Descriptor(media_type, digest, len(data))

    def spoil(self, part: str, *faults: Fault) -> None:
        """Spoil the next answers whose `METHOD path` contains `part`, one by each fault."""
        with self._lock:
            self._faults.extend((part, fault) for fault in faults)

    @property
    def pending(self) -> int:
        """How many faults of `spoil` have not struck yet."""
        return len(self._faults)

    @contextmanager
    def spoiling(self, part: str, fault: Fault) -> Iterator[None]:
        """Spoil every such answer for the duration of a `with` block."""
        rule = (part, fault)
        with self._lock:
            self._standing.append(rule)
        try:
            yield
        finally:
            with self._lock:
                self._standing.remove(rule)

    def twin(self) -> FakeRegistry:
        """Return a registry with the same content at the same address, for when this is gone."""
        twin = FakeRegistry(port=int(self.host.rpartition(":")[2]))
        twin._blobs.update(self._blobs)
        twin._manifests.update(self._manifests)
        return twin

    def requests(self, part: str) -> list[Seen]:
        """Return the requests so far whose `METHOD path` contains `part`."""
        return [seen for seen in self.server.seen if part in f"{seen.method} {seen.path}"]

    def _reply(self, request: Seen) -> Reply:
        reply = self._honest(request)
        fault = self._next_fault(f"{request.method} {request.path}")
        return reply if fault is None else fault(request, reply)

    def _next_fault(self, where: str) -> Fault | None:
        with self._lock:
            for index, (part, fault) in enumerate(self._faults):
                if part in where:
                    del self._faults[index]
                    return fault
            return next((fault for part, fault in self._standing if part in where), None)

    def _honest(self, request: Seen) -> Reply:
        kind, name = request.path.partition("?")[0].rsplit("/", 2)[-2:]
        if kind == "blobs" and name in self._blobs:
            data = self._blobs[name]
            headers = {
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": name,
                "Accept-Ranges": "bytes",
            }
            return _ranged(request, Reply(200, headers, data))
        if kind == "manifests" and name in self._manifests:
            media_type, data = self._manifests[name]
            digest = str(Digest.of(data))
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
            if request.method == "HEAD":
                return Reply(200, {**headers, "Content-Length": str(len(data))})
            return _ranged(request, Reply(200, headers, data))
        code = "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN"
        return error(404, code)


def _ranged(request: Seen, reply: Reply) -> Reply:
    wanted = request.headers.get("range", "")
    if not wanted:
        return reply
    begin, _, end = wanted.removeprefix("bytes=").partition("-")
    first, total = int(begin), len(reply.body)
    last = min(int(end), total - 1) if end else total - 1
    if first >= total:
        return Reply(416, {"Content-Range": f"bytes */{total}"})
    found = {**reply.headers, "Content-Range": f"bytes {first}-{last}/{total}"}
    return replace(reply, status=206, headers=found, body=reply.body[first : last + 1])


def error(status: int, code: str, headers: Headers | None = None) -> Reply:
    """Return a registry's error answer."""
    body = f'{{"errors":[{{"code":"{code}","message":"said by the server"}}]}}'.encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)


def cut(count: int) -> Fault:
    """Close the connection after `count` bytes of the body."""
    return lambda _, reply: replace(reply, cut=count)


def stall(count: int) -> Fault:
    """Send `count` bytes of the body, then nothing more."""
    return lambda _, reply: replace(reply, cut=count, stall=True)


def status(code: int, headers: Headers | None = None) -> Fault:
    """Answer with an error."""
    return lambda _, __: error(code, "TOOMANYREQUESTS" if code == 429 else "UNAVAILABLE", headers)


def with_headers(headers: Headers) -> Fault:
    """Add or replace headers."""
    return lambda _, reply: replace(reply, headers={**reply.headers, **headers})


def with_body(body: bytes) -> Fault:
    """Send another body."""
    return lambda _, reply: replace(reply, body=body)


def without(header: str) -> Fault:
    """Leave a header out."""

    def spoil(_: Seen, reply: Reply) -> Reply:
        kept = {name: value for name, value in reply.headers.items() if name != header}
        return replace(reply, headers=kept)

    return spoil


def redirect(location: str, code: int = 307) -> Fault:
    """Send the client elsewhere."""
    return lambda _, __: Reply(code, {"Location": location})


def answer(reply: Reply) -> Fault:
    """Answer just this."""
    return lambda _, __: reply
