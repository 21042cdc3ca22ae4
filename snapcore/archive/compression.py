"""A layer's uncompressed bytes, whatever its compression, within its budgets.

The compression is told by the first bytes, as every puller does: media types lie. Everything
that goes past a budget is `RefusedInput`, sizes included: a layer that needs more than the
operator allows is its author's affair, while `ResourceExhausted` is kept for this host.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from snapcore.archive.blob import Blob
from snapcore.archive.inflate import MAGIC as GZIP_MAGIC
from snapcore.archive.inflate import gunzip
from snapcore.archive.types import Limits
from snapcore.archive.zstd import is_magic as is_zstd
from snapcore.archive.zstd import unzstd
from snapcore.errors import RefusedInput
from snapcore.oci import Digest

_LONGEST_MAGIC: Final = 4
_COALESCE: Final = 128 * 1024


class Compression(StrEnum):
    """How a blob is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def detect(head: bytes) -> Compression:
    """Return the compression of a blob that begins with these (at least four) bytes."""
    if head.startswith(GZIP_MAGIC):
        return Compression.GZIP
    if is_zstd(head):
        return Compression.ZSTD
    return Compression.NONE


class ByteStream:
    """The uncompressed bytes of one blob, to be iterated once.

    Only a stream that was iterated to its end has verified checksums, and a digest that means
    the whole blob.

    Attributes:
        compression: what the first bytes said.
        size: uncompressed bytes so far.
    """

    def __init__(self, blob: Blob, limits: Limits) -> None:
        """Read the first bytes of `blob`; see `open_stream` for what it raises."""
        self.size = 0
        self._blob = blob
        self._limits = limits
        head = blob.read()
        while len(head) < _LONGEST_MAGIC and (more := blob.read()):
            head += more
        self.compression = detect(head)
        self._blocks = self._open(head)

    def __iter__(self) -> Iterator[bytes]:
        """Yield blocks of roughly 128 KiB to 384 KiB, none of them empty.

        Raises:
            RefusedInput: damaged, cut or past a budget.
        """
        small: list[bytes] = []
        held = 0
        for block in self._blocks:
            self._account(len(block))
            # Archives of many tiny members would otherwise cost a hand-over for each.
            if held or len(block) < _COALESCE:
                small.append(block)
                held += len(block)
                if held >= _COALESCE:
                    yield b"".join(small)
                    small, held = [], 0
            else:
                yield block
        if small:
            yield b"".join(small)

    @property
    def blob_size(self) -> int:
        """Compressed bytes read so far."""
        return self._blob.size

    def blob_digest(self) -> Digest:
        """Return the digest of the compressed bytes read so far."""
        return self._blob.digest()

    def _open(self, head: bytes) -> Iterator[bytes]:
        if self.compression is Compression.GZIP:
            return gunzip(self._blob, head, self._limits)
        if self.compression is Compression.ZSTD:
            return unzstd(self._blob, head, self._limits)
        return _plain(self._blob, head)

    def _account(self, size: int) -> None:
        self.size += size
        if self.size > self._limits.size:
            raise RefusedInput(
                f"the layer is larger than the {self._limits.size} bytes that are allowed"
            )
        if self.size > self._limits.ratio_free and self.size > self._limits.ratio * self._blob.size:
            raise RefusedInput(
                f"the layer's first {self._blob.size} compressed bytes became {self.size}:"
                f" more than {self._limits.ratio} to 1 are not allowed"
            )


def open_stream(
    descriptor: int, limits: Limits, *, algorithm: str = "sha256", interrupt: int = -1
) -> ByteStream:
    """Return the uncompressed bytes of an open blob.

    Args:
        descriptor: file, pipe or socket, read from its position; stays the caller's.
        limits: budgets.
        algorithm: of the blob's digest.
        interrupt: see `Blob`.

    Raises:
        InvalidArgument: the algorithm is not registered.
        SnapcoreError: reading failed, see `from_os_error`.
    """
    return ByteStream(Blob(descriptor, algorithm, interrupt), limits)


def _plain(blob: Blob, head: bytes) -> Iterator[bytes]:
    while head:
        yield head
        head = blob.read()
