"""Cutting a layer's blob into spans while it is read whole.

A span may begin where a deflate block or a gzip member begins. The first such place that lies
far enough behind the last one is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from snapcore.archive import Limits
from snapcore.errors import RefusedInput
from snapcore_fuse.formats.spans.found import SpanList
from snapcore_fuse.formats.spans.libz import GZIP, InflateStream, new_output, taken
from snapcore_fuse.formats.spans.reader import MEMBER

_OUTPUT: Final = 256 * 1024
_RATIO_FREE: Final = 64 << 20


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
        self._spans.hold(data)
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
