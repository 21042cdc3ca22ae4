"""Values of the chunk cache."""

from __future__ import annotations

from dataclasses import dataclass

from snapcore.oci import Digest


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Names one piece of a layer's stream.

    Attributes:
        layer: digest of the layer's blob.
        index: digest of what says how the layer is cut into pieces; another index cuts otherwise.
        number: of the piece.
    """

    layer: Digest
    index: Digest
    number: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds and did since it was opened.

    Attributes:
        chunks: that can be read.
        bytes: on disk, with what is dropped but not yet cleared away.
        cap: most bytes on disk.
        hits: reads that were served.
        misses: reads that were not.
        evicted: chunks removed to make room.
        refused: chunks that could not be written; the latest are kept in memory.
        damaged: chunks that proved torn or rotten when they were read.
    """

    chunks: int
    bytes: int
    cap: int
    hits: int
    misses: int
    evicted: int
    refused: int
    damaged: int
