"""One blob into a registry's repository: found there, mounted from another, or uploaded.

distribution-spec, "Pushing blobs". A small blob goes in one PUT; a larger one in chunks, and
after a broken connection the registry is asked how far it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from snapcore.errors import DigestMismatch, PermissionDenied, Unavailable
from snapcore.oci import Descriptor
from snapcore.registry.auth import pull_scope
from snapcore.registry.failures import Transient, shown
from snapcore.registry.interrupt import checkpoint
from snapcore.registry.network import Reach
from snapcore.registry.response import Response
from snapcore.registry.source import Source, refusal
from snapcore.registry.transport import Request, Transport, origin

CHUNK_BYTES: Final = 8 << 20
"""A blob up to this size goes in one request; a larger one in chunks of it."""
_MAX_CHUNK: Final = 64 << 20
_MAX_BEGINS: Final = 5
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,19})\Z", re.ASCII)
_GONE: Final = frozenset({404, 410})
Uploaded = Literal["uploaded", "mounted", "exists"]


def push_scope(repository: str) -> str:
    """Return the token scope for writing to `repository`."""
    return f"repository:{repository}:pull,push"


class Location(NamedTuple):
    """Where an upload goes on, and the networks that whoever says so may send us to."""

    url: str
    reach: Reach


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that is written to. All methods block.

    Attributes:
        source: the repository.
        transport: sends what goes to another host than the registry's.
    """

    source: Source
    transport: Transport = field(repr=False)

    def __str__(self) -> str:
        return str(self.source)

    def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        scope: str = "",
        reach: Reach | None = None,
    ) -> Response:
        """Send a request, authorised if it goes to the registry itself.

        Args:
            method: such as `PUT`.
            url: where.
            headers: more headers.
            body: the request's.
            scope: what is needed besides writing to the repository.
            reach: the networks that whoever named the URL may send us to; None for our own.

        Raises:
            PermissionDenied, Unavailable: as `Authorizer.send`.
        """
        host = self.source.host
        base = Request.to_host(host, method, host.api_url, headers or {})
        request = replace(base.to_other(url, base.reach if reach is None else reach), body=body)
        if origin(url) != origin(host.base_url):
            # Such an upload URL carries its own rights; credentials are the registry's alone.
            return self.transport.send(request)
        wanted = f"{push_scope(self.source.repository)} {scope}".strip()
        return self.source.authorizer.send(request, host, wanted)

    def go_on(
        self, method: str, location: Location, headers: dict[str, str], body: bytes = b""
    ) -> Response:
        """Send a request to where an upload goes on; errors as `send`."""
        return self.send(method, location.url, headers, body, reach=location.reach)

    def location(self, response: Response) -> Location:
        """Return where a response says that an upload goes on.

        Raises:
            Unavailable: it names no place, or one without TLS after one with it.
        """
        text = response.headers.get("Location", "").strip()
        if not text:
            raise Unavailable(f"registry of {str(self)!r} does not say where an upload goes on")
        url = urljoin(response.url, text)
        if origin(response.url)[0] == "https" and origin(url)[0] != "https":
            raise Unavailable(
                f"registry of {str(self)!r} sends an upload to {shown(url)!r}: refused"
            )
        return Location(url, response.reach)

    @property
    def uploads_url(self) -> str:
        """Where uploads begin."""
        return self.source.endpoint("blobs/uploads/")


class Upload:
    """The state of one upload; its calls block and follow each other.

    Args:
        target: the repository.
        blob: what to upload.
        read: returns so many bytes from an offset on.
        mount_from: a repository of the same registry that has the blob, "" if none is known.
        progress: told the bytes that the registry has.
        chunk: most bytes of one request.

    Attributes:
        how: how the blob came to be there; None until it is.
    """

    def __init__(
        self,
        target: Target,
        blob: Descriptor,
        read: Callable[[int, int], bytes],
        mount_from: str,
        progress: Callable[[int], None],
        chunk: int = CHUNK_BYTES,
    ) -> None:
        self.how: Uploaded | None = None
        self._target: Final = target
        self._blob: Final = blob
        self._read: Final = read
        self._progress: Final = progress
        self._what: Final = f"blob {str(blob.digest)!r} in {str(target)!r}"
        self._mount_from = mount_from
        self._chunk = chunk
        self._location: Location | None = None
        self._offset = 0
        self._farthest = 0
        self._unsure = False
        self._begins = 0

    def step(self) -> None:
        """Make one step: look and begin, go on, or finish.

        Raises:
            Transient: another step may do better.
            DigestMismatch: the registry has the blob in another size.
            NotFound, PermissionDenied, Unavailable: the registry's answer.
        """
        checkpoint()
        if self._location is None:
            self._begin()
            return
        try:
            self._advance(self._location)
        except Transient:
            self._unsure = True
            raise

    def abandon(self) -> None:
        """Tell the registry that nothing more comes, if it waits for something.

        Raises:
            SnapcoreError: as `step`; the registry may keep what it has until it tidies up itself.
        """
        location, self._location = self._location, None
        if location is not None and self.how is None:
            self._target.go_on("DELETE", location, {}).close()

    def _advance(self, location: Location) -> None:
        if self._unsure:
            location = self._ask(location)
            if self._offset > self._farthest:
                self._came_to(self._offset)
                return
        if self._offset < self._blob.size and (self._offset or self._blob.size > self._chunk):
            self._patch(location)
        else:
            self._finish(location)

    def _begin(self) -> None:
        url = self._target.source.blob_url(self._blob.digest)
        with self._target.send("HEAD", url) as response:
            if response.status == 200:
                self._check_size(response)
                self.how = "exists"
                return
            if response.status != 404:
                raise refusal(response, self._what)
        if self._begins == _MAX_BEGINS:
            raise Unavailable(
                f"the registry forgets the upload of {self._what} again and again: gave up"
            )
        self._begins += 1
        self._offset, self._unsure = 0, False
        if not self._mounted():
            with self._target.send("POST", self._target.uploads_url) as response:
                self._begun(response)

    def _mounted(self) -> bool:
        """Ask the registry to take the blob from another repository; False: begin otherwise."""
        if not self._mount_from:
            return False
        source, self._mount_from = self._mount_from, ""
        what = {"mount": str(self._blob.digest), "from": source}
        url = _with_query(self._target.uploads_url, what)
        try:
            with self._target.send("POST", url, scope=pull_scope(source)) as response:
                if response.status == 201:
                    self.how = "mounted"
                    return True
                if response.status != 202:
                    return False
                self._begun(response)
        except PermissionDenied:
            # That repository may be somebody else's by now; an upload needs it not.
            return False
        return True

    def _begun(self, response: Response) -> None:
        if response.status != 202:
            raise refusal(response, self._what)
        self._location = self._target.location(response)
        least = response.headers.get("OCI-Chunk-Min-Length", "").strip()
        if least.isascii() and least.isdigit():
            self._chunk = max(self._chunk, min(int(least[:12]), _MAX_CHUNK))

    def _patch(self, location: Location) -> None:
        end = min(self._offset + self._chunk, self._blob.size)
        body = self._piece(self._offset, end)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{self._offset}-{end - 1}",
        }
        with self._target.go_on("PATCH", location, headers, body) as response:
            if response.status != 202:
                raise self._failed(response)
            self._location = self._target.location(response)
            said = _length(response)
        self._came_to(end if said is None else min(said, end))

    def _finish(self, location: Location) -> None:
        body = self._piece(self._offset, self._blob.size)
        headers = {"Content-Type": "application/octet-stream"}
        url = _with_query(location.url, {"digest": str(self._blob.digest)})
        with self._target.go_on("PUT", location._replace(url=url), headers, body) as response:
            if response.status not in (201, 204):
                raise self._failed(response)
        self._progress(self._blob.size)
        self.how = "uploaded"

    def _ask(self, location: Location) -> Location:
        with self._target.go_on("GET", location, {}) as response:
            if response.status not in (202, 204):
                raise self._failed(response)
            if response.headers.get("Location"):
                self._location = location = self._target.location(response)
            self._offset = min(_length(response) or 0, self._blob.size)
        self._unsure = False
        return location

    def _came_to(self, offset: int) -> None:
        self._offset = offset
        if offset > self._farthest:
            self._farthest, self._begins = offset, 0
        self._progress(offset)

    def _failed(self, response: Response) -> Exception:
        """Return the error; after some the upload begins anew."""
        if response.status in _GONE:
            self._location = None
            return Transient(f"the registry has forgotten the upload of {self._what}")
        if response.status == 416:
            if not self._unsure and not self._offset:
                self._location = None
            return Transient(f"the registry wants another part of {self._what}")
        return refusal(response, self._what)

    def _piece(self, start: int, end: int) -> bytes:
        data = self._read(start, end - start)
        if len(data) != end - start:
            raise DigestMismatch(f"{self._what}: the content store's file is too short")
        return data

    def _check_size(self, response: Response) -> None:
        length = response.headers.get("Content-Length", "").strip()
        if length.isascii() and length.isdigit() and int(length[:20]) != self._blob.size:
            raise DigestMismatch(
                f"the registry has {self._what} with {length[:20]} bytes, not {self._blob.size}"
            )


def _length(response: Response) -> int | None:
    """Return how many bytes an upload's Range header says there are; None if it does not say.

    `0-0` is taken for nothing: registries send it for an empty upload.
    """
    found = _RANGE.match(response.headers.get("Range", "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0


def _with_query(url: str, more: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(more))))
    return urlunsplit(parts._replace(query=query))
