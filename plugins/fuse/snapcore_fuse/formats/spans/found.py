"""The spans of a blob, collected while it is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import zstandard

from snapcore.errors import RefusedInput
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.envelope import numbers
from snapcore_fuse.formats.spans.reader import MAX_SPAN, MEMBER, Spans
from snapcore_fuse.formats.spans.thin import thinned

_WINDOW_LEVEL: Final = 12


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a span may begin."""

    offset: int
    mode: int
    window: bytes


class SpanList:
    """The spans found so far.

    Attributes:
        position: uncompressed bytes so far.
    """

    def __init__(self, compressed: bool, thin: bool) -> None:
        """Start at the beginning of a blob; `thin` leaves out of windows what is not needed."""
        self._compressed = compressed
        self._thin = thin
        self._starts = numbers("Q")
        self._places = numbers("Q")
        self._modes = bytearray()
        self._windows: list[bytes] = []
        self._digests = bytearray()
        self._hasher = hashlib.sha256()
        self._packer = zstandard.ZstdCompressor(level=_WINDOW_LEVEL)
        self._last = self._next = _Place(0, MEMBER, b"")
        self._held = bytearray()
        self._held_from = 0
        self.position = 0

    @property
    def length(self) -> int:
        """Uncompressed bytes of the last span so far."""
        return self.position - self._starts[-1] if self._starts else 0

    def hold(self, data: bytes) -> None:
        """Take the next compressed bytes, so that what a span refers to can be found out."""
        if self._thin:
            self._held += data

    def offer(self, offset: int, mode: int, window: bytes) -> None:
        """Begin a span at this place of the blob, once bytes come out of it.

        Args:
            offset: of the first byte that wholly belongs to it.
            mode: how it begins, see `MEMBER`.
            window: what came out before.
        """
        self._next = _Place(offset, mode, window)

    def add(self, data: bytes) -> None:
        """Take the next uncompressed bytes."""
        if not data:
            return
        if self._next is not self._last or not self._starts:
            self._begin(self._next)
        self._hasher.update(data)
        self.position += len(data)

    def check(self, offset: int) -> None:
        """Check that the last span, read up to `offset` of the blob, can be served.

        Raises:
            RefusedInput: it is too long.
        """
        begun = self._places[-1] if self._places else 0
        if max(self.length, offset - begun) > MAX_SPAN:
            raise RefusedInput(
                f"no place to begin decoding within {MAX_SPAN} bytes behind byte {begun}"
                " of the layer's blob"
            )

    def finish(self, size: int) -> Spans:
        """Return the spans of a blob of `size` bytes.

        Raises:
            RefusedInput: the last one is too long.
        """
        self.check(size)
        self._end(size)
        self._starts.append(self.position)
        self._places.append(size)
        return Spans(
            Cuts(self._starts),
            self._places,
            bytes(self._modes) if self._compressed else b"",
            tuple(self._windows) if self._compressed else (),
            bytes(self._digests),
        )

    def _begin(self, place: _Place) -> None:
        self._end(place.offset)
        self._starts.append(self.position)
        self._places.append(place.offset)
        self._modes.append(place.mode)
        self._last = place
        # A place within a byte needs that byte.
        passed = max(0, place.offset - 1 - self._held_from)
        del self._held[:passed]
        self._held_from += passed

    def _end(self, offset: int) -> None:
        """End the last span, which reaches to this place of the blob."""
        if not self._starts:
            return
        self._digests += self._hasher.digest()
        self._hasher = hashlib.sha256()
        window = self._last.window
        if window and self._thin:
            window = thinned(window, *self._compressed_span(offset), self.length)
        self._windows.append(self._packer.compress(window) if window else b"")

    def _compressed_span(self, offset: int) -> tuple[int, bytes]:
        """Return the bits of its first byte and the compressed bytes of the last span."""
        bits = self._last.mode % MEMBER
        begin = self._last.offset - (1 if bits else 0) - self._held_from
        return bits, bytes(self._held[begin : offset - self._held_from])
