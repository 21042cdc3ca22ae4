"""A span index: of a gzip layer or an uncompressed one, as kept on disk or published."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

from snapcore.archive import Limits
from snapcore.errors import RefusedInput
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.entries import PackedEntries, unpack
from snapcore_fuse.formats.envelope import from_bytes, seal, to_bytes, unseal
from snapcore_fuse.formats.spans.reader import DIGEST_SIZE, MAX_SPAN, MEMBER, SpanReader, Spans
from snapcore_fuse.formats.types import IndexedEntry, LayerFormat, LayerSource

BLOCK: Final = 512
"""What payloads of a tar are padded to."""


class _Document(msgspec.Struct, frozen=True, array_like=True):
    """What is kept; `starts` and `places` are little-endian numbers of 64 bits."""

    format: LayerFormat
    layer: str
    diff_id: str
    spans: int
    starts: bytes
    places: bytes
    modes: bytes
    windows: tuple[bytes, ...]
    digests: bytes
    entries: PackedEntries


class SpanIndex:
    """All that was seen when the layer was read whole; see `LayerIndex`."""

    def __init__(
        self, source: LayerSource, spans: Spans, entries: PackedEntries, limits: Limits
    ) -> None:
        """Hold what was found; made by `build_index` and `from_bytes`."""
        self._source = source
        self._spans = spans
        self._entries = entries
        self._limits = limits
        self._reader = SpanReader(spans)

    @property
    def format(self) -> LayerFormat:
        """Which of the two it is."""
        # An archive of no bytes has no spans, and either name would do.
        plain = self._spans.digests and not self._spans.modes
        return LayerFormat.TAR if plain else LayerFormat.GZIP_SPANS

    @property
    def reader(self) -> SpanReader:
        """Decodes pieces."""
        return self._reader

    @property
    def prefetch(self) -> int:
        """Nothing is known of what is wanted at start: 0."""
        return 0

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield the entries in order.

        Raises:
            RefusedInput: one breaks a rule of the strict reader.
        """
        return unpack(self._entries, self._limits, BLOCK, self._reader.size)

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads back for the same layer, here or elsewhere."""
        spans = self._spans
        return seal(
            _Document(
                self.format,
                str(self._source.digest),
                str(self._source.diff_id),
                spans.cuts.count,
                to_bytes(spans.cuts.starts),
                to_bytes(spans.places),
                spans.modes,
                spans.windows,
                spans.digests,
                self._entries,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, source: LayerSource, limits: Limits) -> SpanIndex:
        """Return the index of a layer, whoever made it.

        Args:
            data: what `to_bytes` returned, or what somebody published.
            source: the layer.
            limits: budgets of a layer.

        Raises:
            DataLoss: the bytes are damaged.
            RefusedInput: they are no index of this layer, or malformed.
        """
        kept = unseal(data, _Document)
        if (kept.layer, kept.diff_id) != (str(source.digest), str(source.diff_id)):
            raise RefusedInput(f"an index of layer {kept.layer[:100]!r} for {str(source.digest)!r}")
        return cls(source, _spans(kept, source.size, limits), kept.entries, limits)


def _spans(kept: _Document, blob_size: int, limits: Limits) -> Spans:
    count = kept.spans
    starts = from_bytes("Q", kept.starts, count + 1, "starts")
    places = from_bytes("Q", kept.places, count + 1, "places")
    if kept.format is LayerFormat.ESTARGZ:
        raise RefusedInput("malformed layer index: spans of an eStargz layer")
    ways = count if kept.format is LayerFormat.GZIP_SPANS else 0
    if (
        starts[0] != 0
        or starts[-1] > limits.size
        or places[-1] != blob_size
        or (count and places[0] != 0)
        or (kept.format is LayerFormat.TAR and starts != places)
        or not all(
            0 < b - a <= MAX_SPAN for column in (starts, places) for a, b in pairwise(column)
        )
        or (len(kept.modes), len(kept.windows)) != (ways, ways)
        or len(kept.digests) != count * DIGEST_SIZE
        or (ways and kept.modes[0] != MEMBER)
        or max(kept.modes, default=0) > MEMBER
    ):
        raise RefusedInput("malformed layer index: its spans do not fit each other or the blob")
    return Spans(Cuts(starts), places, kept.modes, kept.windows, kept.digests)
