"""Cutting a layer's blob into spans while it is read whole.

A span may begin where a deflate block or a gzip member begins. The first such place that lies
far enough behind the last one is taken.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from snapcore.archive import Limits
from snapcore.errors import RefusedInput
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.envelope import numbers
from snapcore_fuse.formats.spans.libz import GZIP, InflateStream, new_output, taken
from snapcore_fuse.formats.spans.reader import MAX_SPAN, MEMBER, Spans

_OUTPUT: Final = 256 * 1024
_RATIO_FREE: Final = 64 << 20
_WINDOW_LEVEL: Final = 12


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a span may begin."""

    offset: int
    mode: int
    window: bytes


class SpanList:
    """The spans found so far."""

    def __init__(self, compressed: bool) -> None:
        """Start at the beginning of a blob."""
        self._compressed = compressed
        self._starts = numbers("Q")
        self._places = numbers("Q")
        self._modes = bytearray()
        self._windows: list[bytes] = []
        self._digests = bytearray()
        self._hasher = hashlib.sha256()
        self._packer = zstandard.ZstdCompressor(level=_WINDOW_LEVEL)
        self._next: _Place | None = _Place(0, MEMBER, b"")
        self.position = 0

    @property
    def length(self) -> int:
        """Uncompressed bytes of the last span so far."""
        return self.position - self._starts[-1] if self._starts else 0

    def offer(self, offset: int, mode: int, window: bytes) -> None:
        """Begin a span at this place of the blob, once bytes come out of it."""
        self._next = _Place(offset, mode, window)

    def add(self, data: bytes) -> None:
        """Take the next uncompressed bytes."""
        if not data:
            return
        if self._next is not None:
            self._begin(self._next)
            self._next = None
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
        if self._starts:
            self._digests += self._hasher.digest()
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
        if self._starts:
            self._digests += self._hasher.digest()
            self._hasher = hashlib.sha256()
        self._starts.append(self.position)
        self._places.append(place.offset)
        self._modes.append(place.mode)
        self._windows.append(self._packer.compress(place.window) if place.window else b"")


def cut_plain(blocks: Iterator[bytes], spans: SpanList, span_size: int) -> Iterator[bytes]:
    """Yield a blob that is not compressed, cutting it every `span_size` bytes."""
    for block in blocks:
        at = 0
        while at < len(block):
            if spans.length >= span_size:
                spans.offer(spans.position, MEMBER, b"")
                room = span_size
            else:
                room = span_size - spans.length
            spans.add(block[at : at + room])
            at += room
        yield block


class GzipCutter:
    """Inflates a gzip blob and cuts it into spans."""

    def __init__(self, spans: SpanList, limits: Limits, span_size: int) -> None:
        """Cut.

        Args:
            spans: gets the spans.
            limits: `size`, `ratio` and `members` count.
            span_size: least uncompressed bytes of a span.
        """
        self._spans = spans
        self._limits = limits
        self._span_size = span_size
        self._output = new_output(_OUTPUT)
        self._read = 0
        self._members = 0

    def cut(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the uncompressed bytes of all members.

        Args:
            blocks: the blob, to its end.

        Raises:
            RefusedInput: damaged, cut, past a budget, or without places to begin.
            Unimplemented: there is no libz here.
        """
        data = self._more(blocks)
        while data:
            self._members += 1
            if self._members > self._limits.members:
                raise RefusedInput(f"more than {self._limits.members} gzip members in one layer")
            if self._spans.length >= self._span_size:
                self._spans.offer(self._read - len(data), MEMBER, b"")
            with InflateStream(GZIP) as stream:
                stream.give(data)
                yield from self._member(stream, blocks)
                # `give` may have got other data since.
                data = stream.rest()
            data = data or self._more(blocks)

    def _member(self, stream: InflateStream, blocks: Iterator[bytes]) -> Iterator[bytes]:
        while True:
            try:
                size = stream.to_block_end(self._output)
            except zlib.error as error:
                raise RefusedInput(
                    f"gzip member {self._members} is damaged near byte {self._read}: {error}"
                ) from error
            if size:
                data = taken(self._output, size)
                self._spans.add(data)
                self._account()
                yield data
            if stream.between_blocks and self._spans.length >= self._span_size:
                self._spans.offer(self._read - stream.left, stream.unused_bits, stream.window())
            if stream.ended:
                return
            if not stream.left and not size:
                more = self._more(blocks)
                if not more:
                    raise RefusedInput(
                        f"gzip member {self._members} is cut off: the blob ends at byte"
                        f" {self._read}"
                    )
                stream.give(more)

    def _more(self, blocks: Iterator[bytes]) -> bytes:
        data = next(blocks, b"")
        self._read += len(data)
        return data

    def _account(self) -> None:
        size = self._spans.position
        self._spans.check(self._read)
        if size > self._limits.size:
            raise RefusedInput(
                f"the layer is larger than the {self._limits.size} bytes that are allowed"
            )
        if size > _RATIO_FREE and size > self._limits.ratio * self._read:
            raise RefusedInput(
                f"the layer's first {self._read} compressed bytes became {size}:"
                f" more than {self._limits.ratio} to 1 are not allowed"
            )
