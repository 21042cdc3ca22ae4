"""Windows without the bytes that nobody refers to: a third of the size, when compressed.

Which bytes of a window a span refers to is found by inflating it with two other windows, in
which each position is written as a pair of unequal bytes: one in the first, one in the second.
Deflate copies bytes and never computes with them. So where the two results differ, the byte was
copied from the window, by however many steps, and the pair says from where.
"""

from __future__ import annotations

from sys import byteorder
from typing import Final

from snapcore_fuse.formats.spans.libz import WINDOW, new_output, resume, taken

_FIRST: Final = bytes(at & 0xFF for at in range(WINDOW))
# Never the same as the first: the difference is 1 … 128.
_SECOND: Final = bytes((at + (at >> 8) + 1) & 0xFF for at in range(WINDOW))


def thinned(window: bytes, bits: int, data: bytes, size: int) -> bytes:
    """Return a window with zeros for what a span does not refer to.

    Args:
        window: what came out before the span.
        bits: how many of the first byte belong to the span; 0 for all.
        data: of the span, compressed.
        size: uncompressed bytes of the span.

    Raises:
        zlib.error: the data is damaged.
    """
    pairs = bytearray(2 * size)
    low = 0 if byteorder == "little" else 1
    pairs[low::2] = _inflated(_FIRST[: len(window)], bits, data, size)
    pairs[1 - low :: 2] = _inflated(_SECOND[: len(window)], bits, data, size)
    used = bytearray(len(window))
    for pair in set(memoryview(pairs).cast("H")):
        first, second = pair & 0xFF, pair >> 8
        if first != second:
            used[((second - first - 1) & 0xFF) << 8 | first] = 1
    return bytes(map(int.__mul__, window, used))


def _inflated(window: bytes, bits: int, data: bytes, size: int) -> bytes:
    """Return what comes out with this window, up to the member's end, and then zeros."""
    output = new_output(size)
    resume(data, bits, window, output)
    return taken(output, size)
