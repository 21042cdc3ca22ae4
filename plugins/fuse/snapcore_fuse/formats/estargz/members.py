"""Where the known bytes of an eStargz blob are, and how they come out of it verified."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from snapcore.archive import DAMAGED, fastest_inflater
from snapcore.errors import DataLoss
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.types import BlobRange, Piece

DIGEST_SIZE: Final = 32
MAX_MEMBER: Final = 64 << 20
"""Most uncompressed bytes of a member up to the end of its last chunk: they are held at once."""
_HEADER_ROOM: Final = 4096


@dataclass(frozen=True, slots=True)
class Members:
    """The gzip members with files' bytes in them; chunks are the verified parts of a member.

    Attributes:
        cuts: the stream; a piece is a member.
        offsets: of each member in the blob, and where the last one ends.
        firsts: number of each member's first chunk, and the number of chunks.
        inners: where each chunk begins in its uncompressed member.
        sizes: of each chunk.
        digests: SHA-256 of each chunk, one behind the other.
    """

    cuts: Cuts
    offsets: array[int]
    firsts: array[int]
    inners: array[int]
    sizes: array[int]
    digests: bytes


class EstargzReader:
    """Decodes the members of an eStargz blob; see `LayerReader`."""

    def __init__(self, members: Members) -> None:
        """Read these members."""
        self._members = members
        self._cuts = members.cuts

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
        members = self._members
        start, end = self._cuts.starts[number : number + 2]
        offset, following = members.offsets[number : number + 2]
        # Behind the last chunk come headers of whatever has no bytes, which may be many.
        needed = _most_compressed(self._inflated(number))
        return Piece(number, start, end - start, BlobRange(offset, min(following - offset, needed)))

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """Yield, in order, the pieces that hold a stretch of the stream; none for size 0."""
        return map(self.piece, self._cuts.holding(start, size))

    def decode(self, piece: Piece, data: bytes) -> bytes:
        """Decompress and verify one piece.

        Raises:
            DataLoss: it does not decompress, or a chunk is not what its digest says.
        """
        members = self._members
        first, last = members.firsts[piece.number : piece.number + 2]
        plain = memoryview(_inflate(data, self._inflated(piece.number), piece))
        parts = []
        for chunk in range(first, last):
            inner = members.inners[chunk]
            part = plain[inner : inner + members.sizes[chunk]]
            wanted = members.digests[chunk * DIGEST_SIZE : (chunk + 1) * DIGEST_SIZE]
            if hashlib.sha256(part).digest() != wanted:
                raise DataLoss(
                    f"chunk {chunk} of an eStargz layer, in the member at byte"
                    f" {piece.blob.offset}, is not {wanted.hex()!r}"
                )
            parts.append(part)
        return b"".join(parts)

    def _inflated(self, number: int) -> int:
        """Return how many bytes of a member must be inflated."""
        last = self._members.firsts[number + 1] - 1
        return self._members.inners[last] + self._members.sizes[last]


def _most_compressed(size: int) -> int:
    """Return what `size` bytes may take: more than deflate's worst case, and a header."""
    return size + size // 4 + _HEADER_ROOM


def _inflate(data: bytes, size: int, piece: Piece) -> bytes:
    """Return the first `size` bytes of a member, and never inflate more."""
    inflater = fastest_inflater()
    parts, feed = [], data
    try:
        while size > 0:
            part = inflater.decompress(feed, size)
            parts.append(part)
            size -= len(part)
            feed = b""
            if size and (inflater.eof or (not part and inflater.needs_input)):
                raise DataLoss(
                    f"the member at byte {piece.blob.offset} of an eStargz layer is cut off"
                )
    except DAMAGED as error:
        raise DataLoss(
            f"the member at byte {piece.blob.offset} of an eStargz layer is damaged: {error}"
        ) from error
    return b"".join(parts)
