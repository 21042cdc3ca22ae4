"""A bound on the whole head of a response, and on each read of its body.

A socket's timeout starts anew with each byte, so a peer could make us wait for ever for the end
of one header; in a chunked body also for the end of a chunk's size, or of the trailer. Both are
read through a reader that knows when a read must have ended.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Final

HEAD_SECONDS: Final = 60.0
"""Within this time the head of a response must be complete, and a read of its body bring something,
or within the time that the socket waits for a single byte, if that is longer."""


class _Reader(io.RawIOBase):
    """Reads a socket; no read outlasts `end`, in monotonic seconds."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        self._socket: Final = connected
        # Unbuffered, this is the socket's own reader: closing it lets the socket go.
        self._raw: Final = connected.makefile("rb", buffering=0)
        self.end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview[int], /) -> int | None:  # type: ignore[override]
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response does not go on in time")
        usual = self._socket.gettimeout()
        self._socket.settimeout(left if usual is None else min(left, usual))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._socket.settimeout(usual)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Limited:
    """What `HTTPResponse` sees of a socket."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        self.reader: Final = _Reader(connected, end)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(self.reader)


class LimitedResponse(HTTPResponse):
    """A response whose head, and each read of whose body, is bounded."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        self._seconds: Final = max(HEAD_SECONDS, sock.gettimeout() or 0)
        limited = _Limited(sock, time.monotonic() + self._seconds)
        self._reader: Final = limited.reader
        super().__init__(limited, debuglevel, method, url)  # type: ignore[arg-type]

    def read1(self, n: int = -1) -> bytes:
        """Read what comes next."""
        self._reader.end = time.monotonic() + self._seconds
        return super().read1(n)
