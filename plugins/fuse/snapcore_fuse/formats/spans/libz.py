"""libz by ctypes: what Python's `zlib` leaves out of inflate.

That is stopping where a deflate block ends, handing out the window there, and starting in the
middle of a byte. Source: zlib.h of zlib 1.2.8 (the first with inflateGetDictionary) or newer;
zlib-ng's compatible build has the same interface.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from types import TracebackType
from typing import Final, Self, TypeAlias

from snapcore.errors import Unimplemented

Output: TypeAlias = ctypes.Array[ctypes.c_char]
"""A buffer that libz writes to."""
GZIP: Final = 31
"""Window bits of a gzip member, header and trailer included."""
RAW: Final = -15
"""Window bits of deflate data alone."""
WINDOW: Final = 32768
"""Most bytes that deflate looks back (RFC 1951 §2)."""
_OLDEST: Final = (1, 2, 8)
_NO_FLUSH: Final = 0
_BLOCK: Final = 5
_OK: Final = 0
_STREAM_END: Final = 1
_BUFFER_ERROR: Final = -5
_BITS: Final = 7
_TRAILER: Final = 8
_LAST_BLOCK: Final = 64
_BLOCK_END: Final = 128


class _Stream(ctypes.Structure):
    """`z_stream`."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libz.so.1")
        library.zlibVersion.restype = ctypes.c_char_p
        version: bytes = library.zlibVersion()
    except (OSError, AttributeError) as error:
        raise Unimplemented(f"span indexes need libz.so.1: {error}") from error
    numbers = tuple(int(part) for part in version.split(b".")[:3] if part.isdigit())
    if numbers < _OLDEST or numbers[0] != _OLDEST[0]:
        raise Unimplemented(f"span indexes need zlib 1.2.8 or newer, not {version.decode()!r}")
    return library


class InflateStream:
    """One inflate stream; use it as a context manager, it holds memory of libz.

    Attributes:
        ended: whether the deflate data, or with `GZIP` the member, is complete.
    """

    def __init__(self, window_bits: int) -> None:
        """Start a stream.

        Args:
            window_bits: `GZIP` or `RAW`.

        Raises:
            Unimplemented: there is no libz here, or too old a one.
            MemoryError: libz has none.
        """
        self.ended = False
        self._libz = _library()
        self._stream = _Stream()
        self._pointer = ctypes.byref(self._stream)
        self._input = b""
        version: bytes = self._libz.zlibVersion()
        size = ctypes.sizeof(_Stream)
        if self._libz.inflateInit2_(self._pointer, window_bits, version, size) != _OK:
            raise MemoryError("libz cannot start a stream")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._libz.inflateEnd(self._pointer)

    @property
    def left(self) -> int:
        """Bytes of the input that have not been taken."""
        return int(self._stream.avail_in)

    @property
    def between_blocks(self) -> bool:
        """Whether `to_block_end` stopped before a block or the first one, with more to come."""
        return int(self._stream.data_type) & (_BLOCK_END | _LAST_BLOCK) == _BLOCK_END

    @property
    def unused_bits(self) -> int:
        """Bits of the last byte taken that belong to what comes next, 0 … 7."""
        return int(self._stream.data_type) & _BITS

    def start_at(self, bits: int, value: int, window: bytes) -> None:
        """Begin raw data in the middle.

        Args:
            bits: how many of the byte before the input belong to it.
            value: these bits.
            window: what came out before, at most 32 KiB.

        Raises:
            zlib.error: libz refuses them.
        """
        if bits:
            self._check(self._libz.inflatePrime(self._pointer, bits, value))
        if window:
            length = len(window)
            self._check(self._libz.inflateSetDictionary(self._pointer, window, length))

    def give(self, data: bytes) -> None:
        """Set the input; what was left of the last one is forgotten."""
        self._input = data  # libz has only its address
        self._stream.next_in = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        self._stream.avail_in = len(data)

    def rest(self) -> bytes:
        """Return what has not been taken of the input."""
        return self._input[len(self._input) - self.left :]

    def to_block_end(self, output: Output) -> int:
        """Inflate until a block ends, `output` is full, or the input is used up.

        Returns:
            Bytes put into `output`; 0 with nothing done if more input is needed.

        Raises:
            zlib.error: the data is damaged.
        """
        return self._inflate(output, len(output), _BLOCK)

    def fill(self, output: Output, at: int) -> int:
        """Inflate into `output` from position `at` until it is full or the input is used up.

        Returns:
            How many bytes that were.

        Raises:
            zlib.error: the data is damaged.
        """
        return self._inflate(output, len(output) - at, _NO_FLUSH, at)

    def window(self) -> bytes:
        """Return what the data to come may refer to: the last bytes put out, at most 32 KiB."""
        buffer = ctypes.create_string_buffer(WINDOW)
        length = ctypes.c_uint(0)
        self._check(self._libz.inflateGetDictionary(self._pointer, buffer, ctypes.byref(length)))
        return buffer.raw[: length.value]

    def _inflate(self, output: Output, room: int, flush: int, at: int = 0) -> int:
        self._stream.next_out = ctypes.addressof(output) + at
        self._stream.avail_out = room
        result = self._libz.inflate(self._pointer, flush)
        if result == _STREAM_END:
            self.ended = True
        elif result != _BUFFER_ERROR:
            self._check(result)
        return room - int(self._stream.avail_out)

    def _check(self, result: int) -> None:
        if result != _OK:
            message = self._stream.msg or b"result %d" % result
            raise zlib.error(message.decode())


def resume(data: bytes, bits: int, window: bytes, output: Output) -> tuple[bytes, int]:
    """Inflate from the middle of a gzip member until it ends or `output` is full.

    Args:
        data: from the byte on in which the place is.
        bits: how many of that byte belong to what comes; 0 for all.
        window: what came out before.
        output: where to.

    Returns:
        What follows the member's trailer, b"" if the member did not end; and how many bytes
        were put out.

    Raises:
        zlib.error: the data is damaged.
    """
    first = 0
    if bits and data:
        first, data = data[0] >> (8 - bits), data[1:]
    with InflateStream(RAW) as stream:
        stream.start_at(bits, first, window)
        stream.give(data)
        done = stream.fill(output, 0)
        return (stream.rest()[_TRAILER:] if stream.ended else b""), done


def new_output(size: int) -> Output:
    """Return a buffer for a stream to write to."""
    return ctypes.create_string_buffer(size)


def taken(output: Output, size: int) -> bytes:
    """Return the first bytes of a buffer."""
    return ctypes.string_at(output, size)
