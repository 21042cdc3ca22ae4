"""How an index lies on a disk or in a registry: a magic, a checksum, and one zstd frame.

The checksum tells a damaged copy from a malformed index; it is no signature. What is inside is
one msgpack document of a fixed type, and is bounded before it is unpacked.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from sys import byteorder
from typing import Final, TypeVar

import msgspec
import zstandard

from snapcore.errors import DataLoss, RefusedInput

MEDIA_TYPE: Final = "application/vnd.snapcore.layer.index.v1+zstd"
"""Of a published index."""
MAX_RAW: Final = 256 << 20
"""Most bytes that an index may have when unpacked; that much memory it may take."""
_MAGIC: Final = b"snapidx\x01"
_CHECKSUM: Final = 32
KEPT: Final = 3
"""Level of compression of an index that is only kept: those beyond take longer than a disk."""
PUBLISHED: Final = 12
"""Level of one that is made once and fetched often."""
_T = TypeVar("_T", bound=msgspec.Struct)


def seal(document: msgspec.Struct, level: int = PUBLISHED) -> bytes:
    """Return a document as bytes that `unseal` reads back."""
    raw = msgspec.msgpack.encode(document)
    body = zstandard.ZstdCompressor(level=level, write_content_size=True).compress(raw)
    return _MAGIC + hashlib.sha256(body).digest() + body


def unseal(data: bytes, kind: type[_T]) -> _T:
    """Return the document in `data`.

    Args:
        data: what `seal` returned, or what somebody published as such.
        kind: type of the document.

    Raises:
        DataLoss: the bytes are cut or damaged.
        RefusedInput: they are no index of this version and kind, or too large.
    """
    body = _checked(data)
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= MAX_RAW:
            raise RefusedInput(f"a layer index of {size} bytes; at most {MAX_RAW} are allowed")
        raw = zstandard.ZstdDecompressor(max_window_size=MAX_RAW).decompress(body, size)
        return msgspec.msgpack.decode(raw, type=kind)
    except (zstandard.ZstdError, msgspec.MsgspecError, RecursionError) as error:
        raise RefusedInput(f"malformed layer index: {error}") from error


def _checked(data: bytes) -> bytes:
    body = data[len(_MAGIC) + _CHECKSUM :]
    if not data.startswith(_MAGIC) or not body:
        raise RefusedInput(f"no layer index of this version: it begins with {data[:8]!r}")
    if hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + _CHECKSUM]:
        raise DataLoss("a layer index is damaged: its checksum is wrong")
    return body


def numbers(code: str, values: Iterable[int] = ()) -> array[int]:
    """Return a packed column of numbers; `code` as in `array`."""
    return array(code, values)


def to_bytes(column: array[int]) -> bytes:
    """Return a column as little-endian bytes."""
    if byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def from_bytes(code: str, data: bytes, count: int, what: str) -> array[int]:
    """Return the column of `count` numbers in `data`.

    Raises:
        RefusedInput: it has another length; the message names `what`.
    """
    column = array(code)
    if len(data) != count * column.itemsize:
        raise RefusedInput(
            f"malformed layer index: {what} have {len(data)} bytes instead of"
            f" {count * column.itemsize}"
        )
    column.frombytes(data)
    if byteorder == "big":
        column.byteswap()
    return column
