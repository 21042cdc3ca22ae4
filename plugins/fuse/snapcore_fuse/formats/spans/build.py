"""Making a span index while a layer is read whole: one pass for spans, entries and digests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from snapcore.archive import BlockReader, Limits, TarReader
from snapcore.errors import DigestMismatch
from snapcore.oci.digest import Hasher
from snapcore_fuse.formats.entries import EntryPacker
from snapcore_fuse.formats.spans.cutter import GzipCutter, cut_plain
from snapcore_fuse.formats.spans.found import SpanList
from snapcore_fuse.formats.spans.index import BLOCK, SpanIndex
from snapcore_fuse.formats.types import IndexedEntry, LayerSource

GZIP_SPAN: Final = 1 << 20
"""Least uncompressed bytes of a span of a gzip layer."""
PLAIN_SPAN: Final = 256 * 1024
"""Bytes of a span of a layer that is not compressed: nothing but its digest is to be kept."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_REST: Final = 1 << 18


def build_index(
    blocks: Iterable[bytes],
    source: LayerSource,
    limits: Limits,
    *,
    gzip_span: int = GZIP_SPAN,
    thin_windows: bool = True,
) -> SpanIndex:
    """Return the index of a layer that is a gzip or uncompressed tar.

    Blocking; much of the time is spent in libz and in hashing, without the interpreter's lock.

    Args:
        blocks: the blob from its beginning to its end, in blocks of any size but 0.
        source: what it must turn out to be.
        limits: budgets of the layer.
        gzip_span: least uncompressed bytes of a span.
        thin_windows: keep of each window only what is referred to. It makes the index of a gzip
            layer three times smaller, and takes six times as long as reading the layer.

    Raises:
        DigestMismatch: the blob or its tar is not what `source` says.
        RefusedInput: it is damaged, breaks a rule of the strict reader, goes past a budget, or
            has no places to begin decoding at.
        Unimplemented: there is no libz here.
    """
    blob = _Hashed(blocks, source.digest.hasher())
    head = next(blob, b"")
    while len(head) < len(_GZIP_MAGIC) and (more := next(blob, b"")):
        head += more
    whole = itertools.chain((head,), blob) if head else iter(())
    compressed = head.startswith(_GZIP_MAGIC)
    spans = SpanList(compressed, thin_windows)
    if compressed:
        plain = GzipCutter(spans, limits, gzip_span).cut(whole)
    else:
        plain = cut_plain(whole, spans, PLAIN_SPAN)
    tar = _Hashed(plain, source.diff_id.hasher())
    stream = BlockReader(lambda: next(tar, b""))
    packer = EntryPacker(BLOCK)
    for entry in TarReader(stream, limits):
        packer.add(IndexedEntry(entry, stream.position if entry.size else 0))
    while stream.skip(_REST) == _REST:
        pass
    blob.verify(source.digest.hex, "the layer's blob")
    tar.verify(source.diff_id.hex, "the layer's tar")
    return SpanIndex(source, spans.finish(blob.size), packer.finish(), limits)


class _Hashed:
    """Blocks that are hashed and counted as they go by."""

    def __init__(self, blocks: Iterable[bytes], hasher: Hasher) -> None:
        self.size = 0
        self._blocks = iter(blocks)
        self._hasher = hasher

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        self._hasher.update(block)
        self.size += len(block)
        return block

    def verify(self, wanted: str, what: str) -> None:
        if self._hasher.hexdigest() != wanted:
            raise DigestMismatch(
                f"{what} has the digest {self._hasher.hexdigest()!r}, not {wanted!r}"
            )
