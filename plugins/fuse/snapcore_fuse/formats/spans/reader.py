"""The spans of a layer: where each begins in the blob, and how it comes out verified."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from snapcore.errors import DataLoss
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.spans.libz import (
    GZIP,
    WINDOW,
    InflateStream,
    new_output,
    resume,
    taken,
)
from snapcore_fuse.formats.types import BlobRange, Piece

DIGEST_SIZE: Final = 32
MAX_SPAN: Final = 64 << 20
"""Most bytes of a span, compressed or not: they are held at once."""
MEMBER: Final = 8
"""Mode of a span that begins with a gzip member; less: bits of the byte before it."""


@dataclass(frozen=True, slots=True)
class Spans:
    """All spans of a layer.

    Attributes:
        cuts: the stream, which is the uncompressed tar; a piece is a span.
        places: of each span in the blob, and the blob's size.
        modes: how each span begins, see `MEMBER`; empty if the blob is not compressed.
        windows: what each span refers back to, as a zstd frame; b"" for nothing.
        digests: SHA-256 of each span's uncompressed bytes, one behind the other.
    """

    cuts: Cuts
    places: array[int]
    modes: bytes
    windows: tuple[bytes, ...]
    digests: bytes


class SpanReader:
    """Decodes the spans of a layer; see `LayerReader`."""

    def __init__(self, spans: Spans) -> None:
        """Read these spans."""
        self._spans = spans
        self._cuts = spans.cuts

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return self._cuts.size

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return self._cuts.count

    def piece(self, number: int) -> Piece:
        """Return a piece by its number."""
        start, end = self._cuts.starts[number : number + 2]
        place, following = self._spans.places[number : number + 2]
        if self._bits(number):
            place -= 1
        return Piece(number, start, end - start, BlobRange(place, following - place))

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """Yield, in order, the pieces that hold a stretch of the stream; none for size 0."""
        return map(self.piece, self._cuts.holding(start, size))

    def decode(self, piece: Piece, data: bytes) -> bytes:
        """Decompress and verify one piece.

        Raises:
            DataLoss: it does not decompress, or is not what its digest says.
            Unimplemented: there is no libz here.
        """
        number = piece.number
        plain = self._inflate(piece, data) if self._spans.modes else data
        wanted = self._spans.digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
        if hashlib.sha256(plain).digest() != wanted:
            raise DataLoss(f"span {number} of a layer is not {wanted.hex()!r}")
        return plain

    def _bits(self, number: int) -> int:
        mode = self._spans.modes[number] if self._spans.modes else MEMBER
        return 0 if mode == MEMBER else mode

    def _inflate(self, piece: Piece, data: bytes) -> bytes:
        output, done = new_output(piece.size), 0
        try:
            if self._spans.modes[piece.number] != MEMBER:
                window = self._window(piece.number)
                data, done = resume(data, self._bits(piece.number), window, output)
            while done < piece.size:
                with InflateStream(GZIP) as stream:
                    stream.give(data)
                    done += stream.fill(output, done)
                    if done < piece.size and not stream.ended:
                        raise DataLoss(f"span {piece.number} of a layer is cut off")
                    data = stream.rest()
        except (zlib.error, zstandard.ZstdError) as error:
            raise DataLoss(f"span {piece.number} of a layer is damaged: {error}") from error
        return taken(output, piece.size)

    def _window(self, number: int) -> bytes:
        packed = self._spans.windows[number]
        if not packed:
            return b""
        if not 0 <= zstandard.frame_content_size(packed) <= WINDOW:
            raise DataLoss(f"the window of span {number} of a layer is too large")
        return zstandard.ZstdDecompressor().decompress(packed)
