"""A registry with the referrers API and pushes, in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from snapcore.oci import Digest
from snapcore.oci.descriptor import OCI_INDEX
from support.faults import FakeRegistry, Reply, Seen, error


@dataclass(frozen=True, slots=True)
class _Known:
    subject: str
    artifact_type: str
    item: dict[str, object]


class ReferrersRegistry(FakeRegistry):
    """Keeps track of what refers to what (distribution-spec 1.1).

    Args:
        page: referrers in one answer; 0 gives all in one.
        filters: whether it filters by artifact type itself.
        tracks: False is a registry without the API.
    """

    def __init__(self, *, page: int = 0, filters: bool = True, tracks: bool = True) -> None:
        super().__init__()
        self._page: Final = page
        self._filters: Final = filters
        self._tracks: Final = tracks
        self._known: Final[list[_Known]] = []
        self._uploads = 0

    def _honest(self, request: Seen) -> Reply:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        kind, name = parts.path.rsplit("/", 2)[-2:]
        if request.method == "POST":
            self._uploads += 1
            return Reply(202, {"Location": f"/v2/app/uploads/{self._uploads}"})
        if request.method == "PUT" and kind == "uploads":
            return self._stored(self.add_blob(request.body), query["digest"][0])
        if request.method == "PUT":
            return self._manifest(request, name)
        if kind == "referrers":
            return self._referrers(parts.path, name, query) if self._tracks else error(404, "X")
        return super()._honest(request)

    def _stored(self, digest: Digest, said: str) -> Reply:
        return Reply(201) if str(digest) == said else error(400, "DIGEST_INVALID")

    def _manifest(self, request: Seen, name: str) -> Reply:
        media_type = request.headers["content-type"]
        digest = self.add_manifest(request.body, media_type, name).digest
        headers = {"Docker-Content-Digest": str(digest)}
        document = json.loads(request.body)
        if "subject" in document and self._tracks:
            subject = headers["OCI-Subject"] = document["subject"]["digest"]
            item = {
                "mediaType": media_type,
                "digest": str(digest),
                "size": len(request.body),
                "artifactType": document["artifactType"],
                "annotations": document["annotations"],
            }
            known = _Known(subject, document["artifactType"], item)
            if known not in self._known:
                self._known.append(known)
        return Reply(201, headers)

    def _referrers(self, path: str, subject: str, query: dict[str, list[str]]) -> Reply:
        wanted = query.get("artifactType", [""])[0] if self._filters else ""
        items = [
            known.item
            for known in self._known
            if known.subject == subject and wanted in ("", known.artifact_type)
        ]
        first = int(query.get("last", ["0"])[0])
        last = first + self._page if self._page else len(items)
        headers = {"Content-Type": OCI_INDEX}
        if last < len(items):
            more = {"last": str(last)} | ({"artifactType": wanted} if wanted else {})
            headers["Link"] = f'<{path}?{urlencode(more)}>; rel="next"'
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items[first:last]}
        return Reply(200, headers, json.dumps(document).encode())
