"""What every lazy format comes down to: a stream of file bytes, cut into verified pieces.

The **stream** of a layer is what its files' bytes are addressed in. For a span index it is the
uncompressed tar; for a table of contents, which does not say where the tar headers are, it is
what the table knows of the tar: the known bytes of one compressed member after the other. In
both a file is one contiguous stretch, so that two numbers say where its bytes are.

A **piece** is what is fetched, verified and cached as one: a stretch of the stream that takes
one range of the blob to decode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from snapcore.archive import Entry
from snapcore.oci import Digest


class LayerFormat(StrEnum):
    """How a layer is read piece by piece."""

    ESTARGZ = "estargz"
    GZIP_SPANS = "gzip-spans"
    TAR = "tar"


class BlobRange(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a layer's blob.

    Attributes:
        offset: of its first byte in the blob.
        size: in bytes; at least 1.
    """

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + self.size


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a layer's stream.

    Attributes:
        number: position among the layer's pieces, from 0.
        start: offset of its first byte in the stream.
        size: bytes of the stream.
        blob: what must be fetched to decode it.
    """

    number: int
    start: int
    size: int
    blob: BlobRange


class LayerReader(Protocol):
    """Turns bytes of a blob into verified bytes of the layer's stream. No I/O; thread-safe."""

    @property
    def size(self) -> int:
        """Bytes of the stream."""

    @property
    def count(self) -> int:
        """How many pieces there are; they cover the stream without gaps or overlaps."""

    def piece(self, number: int) -> Piece:
        """Return a piece by its number."""

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """Yield, in order, the pieces that hold a stretch of the stream; none for size 0."""

    def decode(self, piece: Piece, data: bytes) -> bytes:
        """Decompress and verify one piece.

        Args:
            piece: which.
            data: exactly the bytes of `piece.blob`.

        Returns:
            Its `piece.size` bytes.

        Raises:
            DataLoss: they are not what the index promises, or do not decompress.
        """


class IndexedEntry(msgspec.Struct, frozen=True, gc=False):
    """A tar entry that was not read from the tar.

    Attributes:
        entry: as the strict reader would give it.
        start: where a file's bytes begin in the stream; 0 for what has no bytes.
    """

    entry: Entry
    start: int


class LayerIndex(Protocol):
    """All that is known of a layer without its blob.

    Attributes are read-only. `to_bytes` and `load_index` keep it on disk, so that a restart needs
    no network.
    """

    @property
    def format(self) -> LayerFormat:
        """What it is an index of."""

    @property
    def reader(self) -> LayerReader:
        """Decodes pieces."""

    @property
    def prefetch(self) -> int:
        """Bytes of the blob, from its beginning, that are wanted at start; 0 for none."""

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield the tar's entries in order.

        Raises:
            RefusedInput: one breaks a rule of the strict reader.
        """

    def to_bytes(self) -> bytes:
        """Return what `load_index` reads back for the same layer."""


@dataclass(frozen=True, slots=True)
class LayerSource:
    """Which blob an index belongs to.

    Attributes:
        digest: of the blob.
        size: of the blob, in bytes.
        media_type: as the manifest says.
        diff_id: of the uncompressed tar.
    """

    digest: Digest
    size: int
    media_type: str
    diff_id: Digest
