"""A registry inside the test process that takes pushes, and spoils single answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from snapcore.oci import Digest
from support.faults import Fault, HttpServer, Reply, Seen, error

_CONTENT_RANGE: Final = re.compile(r"(\d+)-(\d+)\Z")


class FakeTarget:
    """A registry that takes pushes; a context manager.

    Attributes:
        blobs: what was uploaded or mounted, by digest.
        elsewhere: what other repositories have, by repository and digest.
        manifests: media type and bytes, by tag and by digest.
        uploads: what has come of those that are not ended, by name.
        prefix: put before the path of a Location.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.elsewhere: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.prefix = ""
        self._faults: list[tuple[str, Fault]] = []
        self.server: Final = HttpServer(self._reply)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    def spoil(self, part: str, *faults: Fault) -> None:
        """Spoil the next answers whose `METHOD path` contains `part`, one by each fault."""
        self._faults.extend((part, fault) for fault in faults)

    def requests(self, part: str) -> list[Seen]:
        """Return the requests so far whose `METHOD path` contains `part`."""
        return [seen for seen in self.server.seen if part in f"{seen.method} {seen.path}"]

    def _reply(self, request: Seen) -> Reply:
        where = f"{request.method} {request.path}"
        for index, (part, fault) in enumerate(self._faults):
            if part in where:
                del self._faults[index]
                return fault(request, self._honest(request))
        return self._honest(request)

    def _honest(self, request: Seen) -> Reply:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        name = path.rsplit("/", 1)[1]
        if "/manifests/" in path:
            return self._manifest(request, name)
        if request.method == "HEAD":
            found = self.blobs.get(name)
            return error(404, "BLOB_UNKNOWN") if found is None else Reply(200, {}, found)
        if request.method == "POST":
            return self._post(query)
        if name not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        return self._upload(request, name, query)

    def _post(self, query: Mapping[str, list[str]]) -> Reply:
        if "mount" in query:
            mounted = self.elsewhere.get((query["from"][0], query["mount"][0]))
            if mounted is not None:
                self.blobs[query["mount"][0]] = mounted
                return Reply(201, {"Location": "/x"})
        name = f"u{len(self.uploads)}"
        self.uploads[name] = b""
        return self._at(name, 202)

    def _at(self, name: str, code: int) -> Reply:
        have = len(self.uploads[name])
        headers = {
            "Location": f"{self.prefix}/v2/app/blobs/uploads/{name}?state=s",
            "Range": f"0-{max(have - 1, 0)}",
        }
        return Reply(code, headers)

    def _upload(self, request: Seen, name: str, query: Mapping[str, list[str]]) -> Reply:
        if request.method == "DELETE":
            del self.uploads[name]
            return Reply(204)
        if request.method == "GET":
            return self._at(name, 204)
        if request.method == "PATCH":
            first = _CONTENT_RANGE.match(request.headers["content-range"])
            assert first is not None
            if int(first[1]) != len(self.uploads[name]):
                return Reply(416)
            self.uploads[name] += request.body
            return self._at(name, 202)
        data = self.uploads.pop(name) + request.body
        (digest,) = query["digest"]
        if str(Digest.of(data)) != digest:
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = data
        return Reply(201, {"Location": "/x"})

    def _manifest(self, request: Seen, name: str) -> Reply:
        if request.method == "PUT":
            digest = str(Digest.of(request.body))
            for key in {name, digest}:
                self.manifests[key] = (request.headers["content-type"], request.body)
            return Reply(201, {"Docker-Content-Digest": digest})
        if name not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, data = self.manifests[name]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(data))}
        return Reply(200, headers, data)
