"""The compressed bytes of a layer: read once, in order, hashed and counted on the way."""

from __future__ import annotations

import os
import select
import stat

from snapcore.errors import from_os_error
from snapcore.oci import Digest
from snapcore.oci.digest import new_hasher

READ_SIZE = 128 * 1024
"""Bytes asked for at a time: what igzip inflates fastest from."""


class Blob:
    """An open blob that is read to its end, and what is known of it then.

    Attributes:
        size: bytes read so far.
    """

    def __init__(self, descriptor: int, algorithm: str = "sha256", interrupt: int = -1) -> None:
        """Wrap an open file, pipe or socket; the caller keeps and closes the descriptor.

        Args:
            descriptor: read from its current position.
            algorithm: of the blob's digest.
            interrupt: a descriptor that becomes readable when waiting for a pipe or socket
                must end; reading then looks like the end of the blob. -1: none.

        Raises:
            InvalidArgument: the algorithm is not registered.
            FailedPrecondition: the descriptor is not open.
        """
        self.size = 0
        self._descriptor = descriptor
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._poll: select.poll | None = None
        self._interrupt = interrupt
        if interrupt >= 0 and not _is_regular(descriptor):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
            self._poll.register(interrupt, select.POLLIN)

    def read(self, size: int = READ_SIZE) -> bytes:
        """Return up to `size` bytes, b"" at the end only.

        Raises:
            DataLoss: the medium failed.
            SnapcoreError: what else read(2) says, see `from_os_error`.
        """
        try:
            if self._poll is not None and self._interrupted(self._poll):
                return b""
            data = os.read(self._descriptor, size)
        except OSError as error:
            raise from_os_error(error, f"reading the layer's blob at byte {self.size}") from error
        self._hasher.update(data)
        self.size += len(data)
        return data

    def digest(self) -> Digest:
        """Return the digest of the bytes read so far."""
        return Digest(self._algorithm, self._hasher.hexdigest())

    def _interrupted(self, poll: select.poll) -> bool:
        return any(descriptor == self._interrupt for descriptor, _ in poll.poll())


def _is_regular(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise from_os_error(error, f"layer blob, descriptor {descriptor}") from error
