"""A registry small enough to read: serves one OCI layout directory, read-only, over HTTP.

The pull half of the OCI distribution specification: `/v2/`, manifests by tag and by digest,
blobs with ranges. For demonstrations; the tests use a real registry.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from support.layout import REF_NAME

_ROUTE: Final = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/(?P<kind>manifests|blobs)/(?P<ref>[^/]+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK: Final = 1 << 20


@contextmanager
def serve_layout(layout: Path) -> Iterator[str]:
    """Serve a layout on a free loopback port for the duration of a `with` block.

    Yields:
        `host:port`.
    """

    class Handler(_Handler):
        directory = layout

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    directory: Path
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  inherited name
        """Say nothing: the demonstration's output is its own."""

    def _answer(self, *, with_body: bool) -> None:
        if self.path == "/v2/":
            self._headers(HTTPStatus.OK, "application/json", 0)
            return
        route = _ROUTE.fullmatch(self.path)
        found = self._find(route["kind"], route["ref"]) if route else None
        if found is None:
            self._headers(HTTPStatus.NOT_FOUND, "application/json", 0)
            return
        digest, media_type = found
        self._send(self._blob(digest), digest, media_type, with_body=with_body)

    def _find(self, kind: str, ref: str) -> tuple[str, str] | None:
        if kind == "blobs":
            known = _DIGEST.fullmatch(ref) and self._blob(ref).is_file()
            return (ref, "application/octet-stream") if known else None
        index = json.loads((self.directory / "index.json").read_bytes())
        for entry in index["manifests"]:
            if ref in (entry["digest"], entry["annotations"][REF_NAME]):
                return entry["digest"], entry["mediaType"]
        return None

    def _blob(self, digest: str) -> Path:
        return self.directory / "blobs/sha256" / digest.removeprefix("sha256:")

    def _send(self, path: Path, digest: str, media_type: str, *, with_body: bool) -> None:
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= size > 0:
            self._headers(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, media_type, 0)
            return
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        extra = {"Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        if asked:
            extra["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._headers(status, media_type, size - start, extra)
        if with_body:
            with path.open("rb") as file:
                file.seek(start)
                while chunk := file.read(_CHUNK):
                    self.wfile.write(chunk)

    def _headers(
        self, status: HTTPStatus, media_type: str, length: int, extra: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(length))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
