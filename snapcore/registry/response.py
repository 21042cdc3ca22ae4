"""A response whose body is read in bounded time and into bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import urllib3
import urllib3.exceptions as wire

from snapcore.errors import RefusedInput, Unavailable
from snapcore.registry.failures import Transient, from_wire, shown
from snapcore.registry.network import Reach

CHUNK_BYTES: Final = 256 * 1024
_MAX_DISCARDED: Final = 64 * 1024


class TooSlow(Transient):
    """Internal signal: the body trickles; what it brought so far is no reason to go on."""


class Response:
    """One response; used by one thread, closed by its `with` block.

    Attributes:
        status: the HTTP status.
        headers: looked up without regard to case.
        url: where it came from, after redirects.
        reach: the networks that its sender may send us to.
        within: the networks that the request for it could go to.
    """

    __slots__ = (
        "_clock",
        "_min_rate",
        "_raw",
        "_window",
        "_window_bytes",
        "_window_start",
        "headers",
        "reach",
        "status",
        "url",
        "within",
    )

    def __init__(
        self,
        raw: urllib3.BaseHTTPResponse,
        url: str,
        window: float,
        min_rate: float,
        clock: Callable[[], float],
        reach: Reach,
        within: Reach,
    ) -> None:
        self._raw: Final = raw
        self._window: Final = window
        self._min_rate: Final = min_rate
        self._clock: Final = clock
        self._window_start = clock()
        self._window_bytes = 0
        self.status: Final = raw.status
        self.headers: Final = raw.headers
        self.url: Final = url
        self.reach: Final = reach
        self.within: Final = within

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read_some(self) -> bytes:
        """Return the next bytes that arrive, at most `CHUNK_BYTES`; b"" at the end.

        Raises:
            Unavailable: the connection broke, ended early, stalled or is too slow.
        """
        try:
            # A connection whose rest was read is detached; urllib3 then answers None.
            data = self._raw.read1(CHUNK_BYTES) or b""
        except (wire.HTTPError, OSError, ValueError) as error:
            raise from_wire(error, self.url) from error
        self._judge_speed(len(data))
        return data

    def read_all(self, limit: int, what: str) -> bytes:
        """Return the whole body.

        Args:
            limit: most bytes that are read.
            what: names the body in messages.

        Raises:
            RefusedInput: the body is longer than `limit`.
            Unavailable: as `read_some`.
        """
        self.check_plain(what)
        parts: list[bytes] = []
        total = 0
        while data := self.read_some():
            total += len(data)
            if total > limit:
                raise RefusedInput(f"{what} is larger than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    def check_plain(self, what: str) -> None:
        """Check that nobody encoded the body on its way.

        Raises:
            Unavailable: a Content-Encoding was applied though `identity` was asked for.
        """
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise Unavailable(
                f"{what} came with Content-Encoding {encoding[:40]!r}, which was not asked for;"
                " the registry or a proxy before it changes bodies"
            )

    def first_bytes(self) -> bytes:
        """Return the beginning of an error's body, b"" if there is none to be had."""
        data = bytearray()
        try:
            while len(data) < _MAX_DISCARDED and (more := self.read_some()):
                data += more
        except Unavailable:
            return b""
        return bytes(data[:_MAX_DISCARDED])

    def discard(self) -> None:
        """Read a short rest, so that the connection can be used again."""
        length = self.headers.get("Content-Length", "")
        if (
            length.isascii()
            and length.isdigit()
            and len(length) < 6
            and int(length) <= _MAX_DISCARDED
        ):
            self.first_bytes()

    def close(self) -> None:
        """Give the connection back, or close it if its body was not read to the end."""
        self._raw.close()
        self._raw.release_conn()

    def _judge_speed(self, count: int) -> None:
        self._window_bytes += count
        elapsed = self._clock() - self._window_start
        if not count or elapsed < self._window:
            return
        if self._window_bytes < self._min_rate * elapsed:
            raise TooSlow(f"{shown(self.url)!r} sends less than {self._min_rate:.0f} bytes/s")
        self._window_start += elapsed
        self._window_bytes = 0
