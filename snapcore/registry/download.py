"""One blob from a registry into an ingest, resumed as often as it brings something new."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from snapcore.content import Ingest
from snapcore.errors import DigestMismatch, InvalidArgument, RefusedInput
from snapcore.oci import Descriptor, Digest, is_index, is_manifest, is_schema1
from snapcore.registry.failures import Transient
from snapcore.registry.interrupt import checkpoint
from snapcore.registry.response import Response, TooSlow
from snapcore.registry.source import ACCEPT, Source, is_document, media_type_of, refusal

Progress = Callable[[Digest, int, int], None]
"""Called with (digest, bytes so far, total bytes), from a worker thread, for every chunk; must
be quick and thread-safe. The bytes go back to 0 when a registry cannot resume."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)


class Download:
    """The state of one download; its calls block and follow each other.

    Args:
        source: the repository.
        descriptor: what to fetch.
        ingest: where the bytes go; what it holds already is resumed.
        progress: told of every chunk.
    """

    __slots__ = ("_descriptor", "_farthest", "_ingest", "_progress", "_ranges", "_source", "_what")

    def __init__(
        self,
        source: Source,
        descriptor: Descriptor,
        ingest: Ingest,
        progress: Progress | None,
    ) -> None:
        self._source: Final = source
        self._descriptor: Final = descriptor
        self._ingest: Final = ingest
        self._progress: Final = progress
        self._what: Final = f"{str(descriptor.digest)!r} of {str(source)!r}"
        self._farthest = ingest.offset
        self._ranges = True

    @property
    def complete(self) -> bool:
        """Whether all bytes are there; whether they are right is the commit's question."""
        return self._ingest.offset >= self._descriptor.size

    def step(self) -> None:
        """Make one request and take what it brings.

        Returns when the blob is complete, and also when the connection broke but the download
        is farther than ever: then the next step resumes it.

        Raises:
            Transient: nothing new came; another step may bring something.
            DigestMismatch: the body has another size than the descriptor; the ingest is gone.
            RefusedInput: the registry serves it as another type of document.
            NotFound, PermissionDenied, Unavailable: the registry's answer.
            ResourceExhausted, DataLoss: the content store's.
        """
        try:
            self._transfer()
        except TooSlow:
            raise
        except Transient:
            if self._ingest.offset <= self._farthest:
                raise
        self._farthest = max(self._farthest, self._ingest.offset)

    def _transfer(self) -> None:
        if not self._ranges and self._ingest.offset:
            self._ingest.truncate()
        offset = self._ingest.offset
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if is_document(self._descriptor):
            headers["Accept"] = ACCEPT
        with self._source.send("GET", self._source.url(self._descriptor), headers) as response:
            self._check(response, offset)
            self._copy(response)
        if not self.complete:
            raise Transient(f"the registry's answer for {self._what} ended early")

    def _check(self, response: Response, offset: int) -> None:
        """Check that the body is what was asked for, and begin again where it is all of it."""
        if response.status == 416 or (response.status == 206 and not self._fits(response, offset)):
            self._ranges = False
            raise Transient(f"the registry answered another range of {self._what} than asked for")
        if response.status not in (200, 206):
            raise refusal(response, self._what)
        response.check_plain(self._what)
        self._check_document(response)
        if response.status == 200:
            if offset:
                self._ingest.truncate()
            self._check_length(response)

    def _fits(self, response: Response, offset: int) -> bool:
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", "").strip())
        if found is None or not offset:
            return False
        first, last, total = found.groups()
        if int(first) != offset or not offset <= int(last) < self._descriptor.size:
            return False
        return total == "*" or int(total) == self._descriptor.size

    def _check_length(self, response: Response) -> None:
        length = response.headers.get("Content-Length", "").strip()
        if length.isascii() and length.isdigit() and int(length[:20]) != self._descriptor.size:
            raise self._too_different(f"{length[:20]} bytes")

    def _check_document(self, response: Response) -> None:
        if not is_document(self._descriptor):
            return
        served = media_type_of(response)
        known = is_index(served) or is_manifest(served) or is_schema1(served)
        if known and served != self._descriptor.media_type:
            raise RefusedInput(
                f"{self._what} is served as {served!r}, not {self._descriptor.media_type!r}"
            )
        named = content_digest(response)
        if named is not None and named.algorithm == self._descriptor.digest.algorithm:
            check_digest(named, self._descriptor.digest, self._what)

    def _copy(self, response: Response) -> None:
        size, digest = self._descriptor.size, self._descriptor.digest
        while data := response.read_some():
            offset = self._ingest.write(data)
            if self._progress is not None:
                self._progress(digest, offset, size)
            checkpoint()

    def _too_different(self, offered: str) -> DigestMismatch:
        self._ingest.abort()
        return DigestMismatch(
            f"the registry offers {offered} for {self._what}, not {self._descriptor.size} bytes"
        )


def content_digest(response: Response) -> Digest | None:
    """Return the digest that the registry names in its header, None if there is no usable one."""
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", "").strip())
    except InvalidArgument:
        return None


def check_digest(found: Digest, wanted: Digest, what: str) -> None:
    """Compare two digests of one thing.

    Raises:
        DigestMismatch: they differ.
    """
    if found != wanted:
        raise DigestMismatch(f"the registry serves {found} for {what}, not {wanted}")
