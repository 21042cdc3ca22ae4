"""Gzip (RFC 1952) as a stream of bounded blocks: members, checksums and lengths are verified.

Two inflaters give the same answers: igzip of ISA-L, about twice as fast, and zlib where igzip
is missing. Both check the CRC and the length of each member.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

from snapcore.archive.blob import READ_SIZE, Blob
from snapcore.archive.types import Limits
from snapcore.errors import RefusedInput

MAGIC: Final = b"\x1f\x8b"
BLOCK_SIZE: Final = 256 * 1024
"""Most bytes that one step puts out."""
_FIRST_FEED: Final = 4096
_RESERVED_FLAGS: Final = 0xE0
_DEFLATE: Final = 8


class Inflater(Protocol):
    """One gzip member's decoder."""

    @property
    def needs_input(self) -> bool:
        """Whether more input must come before more output can."""

    @property
    def eof(self) -> bool:
        """Whether the member is complete and its trailer was right."""

    @property
    def unused_data(self) -> bytes:
        """What came after the member."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Take input, b"" unless `needs_input`; return at most `max_length` bytes.

        Raises:
            zlib.error: the member is damaged (or `igzip_lib.IsalError`, see `DAMAGED`).
        """


class ZlibInflater:
    """The fallback: `zlib.decompressobj` behind igzip's interface."""

    __slots__ = ("_full", "_inner")

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def needs_input(self) -> bool:
        """Whether more input must come before more output can."""
        return not self._full

    @property
    def eof(self) -> bool:
        """Whether the member is complete and its trailer was right."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """What came after the member."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Take input, b"" unless `needs_input`; return at most `max_length` bytes.

        Raises:
            zlib.error: the member is damaged.
        """
        out = self._inner.decompress(self._inner.unconsumed_tail or data, max_length)
        self._full = bool(self._inner.unconsumed_tail)
        return out


DAMAGED: tuple[type[Exception], ...]
"""What inflaters raise on damaged input."""
fastest_inflater: Callable[[], Inflater]
"""Makes the fastest inflater of this machine."""

try:
    from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError
except ImportError:  # no wheel for this machine: zlib does the same, slower
    DAMAGED = (zlib.error,)
    fastest_inflater = ZlibInflater
else:
    DAMAGED = (zlib.error, cast("type[Exception]", IsalError))
    fastest_inflater = functools.partial(IgzipDecompressor, flag=DECOMP_GZIP)


def gunzip(
    blob: Blob,
    head: bytes,
    limits: Limits,
    new_inflater: Callable[[], Inflater] = fastest_inflater,
) -> Iterator[bytes]:
    """Yield the uncompressed bytes of all members up to the end of the blob.

    Args:
        blob: read to its end.
        head: what has been read of it already.
        limits: `members` counts.
        new_inflater: makes a member's decoder.

    Raises:
        RefusedInput: a damaged or cut member, bytes after the last one, too many members.
    """
    data, at, members = head, 0, 0
    while True:
        if len(data) - at < 4:
            data, at = _fill(blob, data[at:], 4), 0
            if not data and members:
                return
        members += 1
        _check_header(data[at : at + 4], members, limits)
        inflater = new_inflater()
        # A member's unused input is copied, so small members must not be fed large slices.
        feed = _FIRST_FEED
        while not inflater.eof:
            piece = b""
            if inflater.needs_input:
                if at == len(data):
                    data, at = blob.read(), 0
                    if not data:
                        raise RefusedInput(
                            f"gzip member {members} is cut off: the blob ends at byte {blob.size}"
                        )
                piece = data[at : at + feed]
                at += len(piece)
                feed = min(feed * 4, READ_SIZE)
            try:
                out = inflater.decompress(piece, BLOCK_SIZE)
            except DAMAGED as error:
                raise RefusedInput(
                    f"gzip member {members} is damaged near byte {blob.size}: {error}"
                ) from error
            if out:
                yield out
        rest = inflater.unused_data
        if len(rest) <= at:
            at -= len(rest)
        else:  # the decoder gave back bytes of an earlier buffer too
            data, at = rest + data[at:], 0


def _fill(blob: Blob, data: bytes, size: int) -> bytes:
    while len(data) < size:
        more = blob.read()
        if not more:
            break
        data += more
    return data


def _check_header(header: bytes, member: int, limits: Limits) -> None:
    if header[:2] != MAGIC:
        raise RefusedInput(
            f"bytes after gzip member {member - 1} are no further member: {header!r}"
        )
    if len(header) < 4:
        raise RefusedInput(f"gzip member {member} is cut off in its header")
    if header[2] != _DEFLATE or header[3] & _RESERVED_FLAGS:
        raise RefusedInput(f"gzip member {member} has an unknown method or flags: {header!r}")
    if member > limits.members:
        raise RefusedInput(f"more than {limits.members} gzip members in one layer")
