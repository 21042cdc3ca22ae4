"""An eStargz layer's index: opened with one or two reads of the blob's tail."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from operator import lt
from typing import Final

import msgspec

from snapcore.archive import Limits
from snapcore.errors import RefusedInput
from snapcore.oci import Digest
from snapcore_fuse.formats.cuts import Cuts
from snapcore_fuse.formats.entries import PackedEntries, pack, unpack
from snapcore_fuse.formats.envelope import KEPT, from_bytes, seal, to_bytes, unseal
from snapcore_fuse.formats.estargz.footer import locate
from snapcore_fuse.formats.estargz.layout import Layout
from snapcore_fuse.formats.estargz.members import (
    DIGEST_SIZE,
    MAX_MEMBER,
    EstargzReader,
    Members,
)
from snapcore_fuse.formats.estargz.toc import read_table
from snapcore_fuse.formats.types import BlobRange, IndexedEntry, LayerFormat, LayerSource

TAIL: Final = 128 * 1024
"""Bytes of the first read: the tables of most layers, at the price of half a round trip."""
_UNPADDED: Final = 1


class _Document(msgspec.Struct, frozen=True, array_like=True):
    """What is kept; numbers are little-endian columns of 64 bits, those of chunks of 32."""

    format: LayerFormat
    layer: str
    prefetch: int
    members: int
    chunks: int
    starts: bytes
    offsets: bytes
    firsts: bytes
    inners: bytes
    sizes: bytes
    digests: bytes
    entries: PackedEntries


class EstargzIndex:
    """All that a table of contents says; see `LayerIndex`."""

    def __init__(
        self,
        source: LayerSource,
        members: Members,
        entries: PackedEntries,
        prefetch: int,
        limits: Limits,
        parsed: Sequence[IndexedEntry] = (),
    ) -> None:
        """Hold what was parsed; made by `open_estargz` and `from_bytes`."""
        self._source = source
        self._members = members
        self._entries = entries
        self._limits = limits
        self._parsed = parsed
        self._reader = EstargzReader(members)
        self._prefetch = prefetch

    @property
    def format(self) -> LayerFormat:
        """It is eStargz."""
        return LayerFormat.ESTARGZ

    @property
    def reader(self) -> EstargzReader:
        """Decodes pieces."""
        return self._reader

    @property
    def prefetch(self) -> int:
        """Bytes before the prefetch landmark; 0 without one."""
        return self._prefetch

    def entries(self) -> Iterator[IndexedEntry]:
        """Yield the entries in order, the table itself last.

        The first time they are those of the table, if it was just parsed, and then let go.

        Raises:
            RefusedInput: one breaks a rule of the strict reader.
        """
        parsed, self._parsed = self._parsed, ()
        if parsed:
            return iter(parsed)
        return unpack(self._entries, self._limits, _UNPADDED, self._reader.size)

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads back for the same layer."""
        members = self._members
        return seal(
            _Document(
                self.format,
                str(self._source.digest),
                self._prefetch,
                members.cuts.count,
                len(members.sizes),
                to_bytes(members.cuts.starts),
                to_bytes(members.offsets),
                to_bytes(members.firsts),
                to_bytes(members.inners),
                to_bytes(members.sizes),
                members.digests,
                self._entries,
            ),
            KEPT,
        )

    @classmethod
    def from_bytes(cls, data: bytes, source: LayerSource, limits: Limits) -> EstargzIndex:
        """Return the index that was kept for a layer.

        Args:
            data: what `to_bytes` returned.
            source: the layer.
            limits: budgets of a layer.

        Raises:
            DataLoss: the bytes are damaged.
            RefusedInput: they are no index of this layer, or malformed.
        """
        kept = unseal(data, _Document)
        if (kept.format, kept.layer) != (LayerFormat.ESTARGZ, str(source.digest)):
            raise RefusedInput(
                f"an index of {kept.format} layer {kept.layer!r} for {str(source.digest)!r}"
            )
        if not 0 <= kept.prefetch <= source.size:
            raise RefusedInput(f"malformed layer index: prefetch of {kept.prefetch} bytes")
        return cls(source, _members(kept, source.size), kept.entries, kept.prefetch, limits)


def open_estargz(
    source: LayerSource, toc_digest: Digest, limits: Limits
) -> Generator[BlobRange, bytes, EstargzIndex]:
    """Read the index of a blob, whose bytes the caller gets: `yield` a range, be sent its bytes.

    Args:
        source: the layer.
        toc_digest: of the table, from the manifest (annotation `TOC_DIGEST`).
        limits: budgets of a layer.

    Yields:
        What must be read next; at most two ranges.

    Returns:
        The index.

    Raises:
        RefusedInput: no eStargz blob, not the table that the manifest names, or a hostile one.
    """
    size = source.size
    begin = max(0, size - TAIL)
    tail = yield BlobRange(begin, size - begin)
    table = locate(tail, size).table
    if table.offset < begin:
        tail = (yield BlobRange(table.offset, begin - table.offset)) + tail
        begin = table.offset
    member = tail[table.offset - begin : table.end - begin]
    layout = Layout(table, limits)
    entries = tuple(layout.entries(read_table(member, toc_digest)))
    packed = pack(entries, _UNPADDED)
    return EstargzIndex(source, layout.members(), packed, layout.prefetch, limits, entries)


def _members(kept: _Document, blob_size: int) -> Members:
    count, chunks = kept.members, kept.chunks
    starts = from_bytes("Q", kept.starts, count + 1, "starts")
    offsets = from_bytes("Q", kept.offsets, count + 1, "offsets")
    firsts = from_bytes("Q", kept.firsts, count + 1, "first chunks")
    inners = from_bytes("I", kept.inners, chunks, "chunks")
    sizes = from_bytes("I", kept.sizes, chunks, "chunk sizes")
    ends = map(int.__add__, inners, sizes)
    if (
        not all(lt(*pair) for column in (starts, offsets, firsts) for pair in pairwise(column))
        or (starts[0], firsts[0]) != (0, 0)
        or (starts[-1], firsts[-1]) != (sum(sizes), chunks)
        or offsets[-1] > blob_size
        or len(kept.digests) != chunks * DIGEST_SIZE
        or max(ends, default=0) > MAX_MEMBER
    ):
        raise RefusedInput("malformed layer index: its members do not fit each other")
    return Members(Cuts(starts), offsets, firsts, inners, sizes, kept.digests)
