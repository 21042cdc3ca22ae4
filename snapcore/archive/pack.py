"""Packing a layer: hashed, compressed and hashed again as it is written.

The same tar gives the same bytes with the same version of the compressor: gzip members carry
neither a time nor a name, and what is compressed comes in blocks of one size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Protocol, cast

import zstandard

from snapcore.archive.compression import Compression
from snapcore.oci import Descriptor, Digest, new_hasher
from snapcore.oci.descriptor import OCI_LAYER

_BLOCK: Final = 1 << 20
_GZIP: Final = 31
"""wbits: a gzip member with the largest window (zlib.h, deflateInit2)."""
_ISAL_LEVEL: Final = 2
_ZLIB_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3
_SUFFIXES: Final = {Compression.NONE: "", Compression.GZIP: "+gzip", Compression.ZSTD: "+zstd"}


class Packer(Protocol):
    """One compressed stream."""

    def compress(self, data: bytes, /) -> bytes:
        """Take more input; return what comes of it by now."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def slow_gzip() -> Packer:
    """Return zlib's gzip, which is everywhere."""
    return zlib.compressobj(_ZLIB_LEVEL, wbits=_GZIP)


def _fastest_gzip() -> Callable[[], Packer]:
    try:
        from isal import isal_zlib
    except ImportError:
        return slow_gzip
    return lambda: cast(Packer, isal_zlib.compressobj(_ISAL_LEVEL, wbits=_GZIP))


fastest_gzip: Final = _fastest_gzip()
"""Makes gzip by igzip of ISA-L, many times as fast as zlib; by zlib where it is missing."""


class LayerPacker:
    """Takes a layer's tar, and hands on its blob.

    Attributes:
        size: bytes of the tar so far.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        compression: Compression,
        gzip: Callable[[], Packer] = fastest_gzip,
    ) -> None:
        """Begin a layer.

        Args:
            write: takes all of the compressed bytes that it is given.
            compression: of the blob.
            gzip: makes a gzip stream.
        """
        self.size = 0
        self._out: Final = write
        self._compression: Final = compression
        self._packer: Final = _packer(compression, gzip)
        self._plain: Final = new_hasher()
        self._packed: Final = new_hasher()
        self._packed_size = 0
        self._buffer: Final = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Take more of the tar."""
        self._buffer.extend(data)
        while len(self._buffer) >= _BLOCK:
            block = bytes(self._buffer[:_BLOCK])
            del self._buffer[:_BLOCK]
            self._pack(block)

    def finish(self) -> tuple[Descriptor, Digest]:
        """Hand on the last bytes; return the blob's descriptor and the layer's diff ID."""
        self._pack(bytes(self._buffer))
        self._buffer.clear()
        self._hand_on(self._packer.flush())
        diff_id = digest = Digest("sha256", self._plain.hexdigest())
        if self._compression is not Compression.NONE:
            digest = Digest("sha256", self._packed.hexdigest())
        media_type = OCI_LAYER + _SUFFIXES[self._compression]
        return Descriptor(media_type, digest, self._packed_size), diff_id

    def _pack(self, block: bytes) -> None:
        self.size += len(block)
        self._plain.update(block)
        self._hand_on(self._packer.compress(block))

    def _hand_on(self, data: bytes) -> None:
        if data:
            if self._compression is not Compression.NONE:
                self._packed.update(data)
            self._packed_size += len(data)
            self._out(data)


def _packer(compression: Compression, gzip: Callable[[], Packer]) -> Packer:
    if compression is Compression.GZIP:
        return gzip()
    if compression is Compression.ZSTD:
        made = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        return cast(Packer, made.compressobj())
    return _Plain()
