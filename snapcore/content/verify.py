"""Reading bytes that must be what their digest and size say."""

from __future__ import annotations

import io
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from snapcore.errors import DigestMismatch, from_os_error
from snapcore.oci import Digest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DRAIN_BYTES: Final = 256 * 1024


class Source(Protocol):
    """What a VerifiedReader reads from, such as an unbuffered file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill part of the buffer and say how much; 0 at the end."""

    def close(self) -> object:
        """Release the source."""


class VerifiedReader(io.RawIOBase):
    """A file-like object whose end is only reached by the right bytes.

    The digest and the size are compared when the end is read, when `verify` is called, and when
    a `with` block ends without an exception; a byte too many is refused at once. What was read
    before that is *not yet verified*. Closing early, with bytes unread, verifies nothing.

    Attributes:
        digest: what the bytes must have.
        size: how many bytes there must be.
        offset: bytes read so far.
    """

    def __init__(self, source: Source, digest: Digest, size: int) -> None:
        self.digest: Final = digest
        self.size: Final = size
        self.offset = 0
        self._source = source
        self._hasher = digest.hasher()
        self._verified = False
        self._broken = ""

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer; larger ones (256 KiB) are cheaper.

        Returns:
            How many bytes; 0 once the end is reached and everything was right.

        Raises:
            DigestMismatch: too many bytes; or at the end: too few, or other ones.
            DataLoss: the medium failed.
            ValueError: the reader is closed (io).
        """
        if self.closed:
            raise ValueError(f"the reader of {self.digest} is closed")
        if self._broken:
            raise DigestMismatch(self._broken)
        view = memoryview(buffer).cast("B")
        try:
            count = self._source.readinto(view) or 0
        except OSError as error:
            raise from_os_error(error, f"reading {self.digest}") from error
        self.offset += count
        if count:
            self._hasher.update(view[:count])
            if self.offset > self.size:
                self._refuse(f"more than the {self.size} bytes expected")
        elif len(view):
            self._check()
        return count

    def verify(self) -> None:
        """Read what is left, and compare.

        Raises:
            DigestMismatch: the bytes are not those of the digest and size.
            DataLoss: the medium failed.
        """
        buffer = memoryview(bytearray(_DRAIN_BYTES))
        while not self._verified:
            self.readinto(buffer)

    def close(self) -> None:
        """Close; if all bytes were read, but not the end, look at the end first.

        Raises:
            DigestMismatch: the bytes are not those of the digest and size.
        """
        if self.closed:
            return
        try:
            if self.offset == self.size and not self._broken:
                self.verify()
        finally:
            super().close()
            self._source.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self.closed:
                self.verify()
        finally:
            self.close()

    def _check(self) -> None:
        if self.offset != self.size:
            self._refuse(f"{self.offset} bytes instead of {self.size}")
        found = self._hasher.hexdigest()
        if found != self.digest.hex:
            self._refuse(f"the bytes have digest {self.digest.algorithm}:{found}")
        self._verified = True

    def _refuse(self, reason: str) -> None:
        self._broken = f"not {self.digest}: {reason}"
        raise DigestMismatch(self._broken)
