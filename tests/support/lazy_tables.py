"""Lazy layers for tests: their tables, and the streams that their bytes are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snapcore.archive import ApplyPolicy
from snapcore.archive.virtual import DiskLayer
from snapcore.oci import Digest
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore_fuse.formats import IndexedEntry
from snapcore_fuse.tables import Table, build, view
from support.layers import Layer


@dataclass(frozen=True, slots=True)
class LazyLayer:
    """A layer that is lazy.

    Attributes:
        table: its inodes.
        digest: what names it.
        stream: its bytes.
    """

    table: Table
    digest: Digest
    stream: bytes


def indexed(layer: Layer) -> tuple[list[IndexedEntry], bytes]:
    """Return the entries of a layer as an index has them, and the stream of their bytes."""
    entries, stream = [], bytearray()
    for entry, data in layer:
        entries.append(IndexedEntry(entry, len(stream)))
        stream += data
    return entries, bytes(stream)


def lazy(
    layer: Layer,
    below: Iterable[LazyLayer | DiskLayer] = (),
    *,
    style: WhiteoutStyle = WhiteoutStyle.OVERLAY,
    policy: ApplyPolicy | None = None,
    name: str = "",
) -> LazyLayer:
    """Make a layer lazy over others, the nearest first."""
    entries, stream = indexed(layer)
    digest = Digest.of(name.encode() or repr(layer).encode())
    lower = view([each.table if isinstance(each, LazyLayer) else each for each in below])
    return LazyLayer(build(entries, digest, lower, style, policy), digest, stream)


def lazy_stack(layers: Sequence[Layer], *, style: WhiteoutStyle) -> list[LazyLayer]:
    """Make layers lazy, one on the other; the result has the nearest first."""
    stack: list[LazyLayer] = []
    for number, layer in enumerate(layers):
        stack.insert(0, lazy(layer, stack, style=style, name=f"layer {number}"))
    return stack
