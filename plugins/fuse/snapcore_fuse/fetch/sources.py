"""Where a blob's bytes come from, and where a whole blob goes."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from snapcore.errors import DataLoss, from_os_error
from snapcore.registry import BlobRanges
from snapcore_fuse.fetch.types import Priority
from snapcore_fuse.formats import BlobRange


class RegistrySource:
    """A blob at a registry and its mirrors.

    Args:
        ranges: reads it.
    """

    def __init__(self, ranges: BlobRanges) -> None:
        self._ranges: Final = ranges

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        """Return bytes of the blob; see `BlobRanges.read`."""
        del priority
        return await self._ranges.read(wanted.offset, wanted.size)

    def distrust(self) -> None:
        """Leave the host alone that answered last."""
        self._ranges.distrust()


class FileSource:
    """A blob that is wholly on this host.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self._path: Final = path

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        """Return bytes of the file.

        Raises:
            NotFound, PermissionDenied, DataLoss: it cannot be read, or is too short.
        """
        del priority
        return await trio.to_thread.run_sync(partial(self._read, wanted))

    def distrust(self) -> None:
        """Do nothing: there is nobody else to ask."""

    def _read(self, wanted: BlobRange) -> bytes:
        try:
            with open(self._path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), wanted.size, wanted.offset)
        except OSError as error:
            raise from_os_error(error, f"blob {self._path!r}") from error
        if len(data) != wanted.size:
            raise DataLoss(f"blob {self._path!r} is too short; remove it to have it fetched anew")
        return data


class FileSink:
    """A file that a blob is gathered in. What came before a restart is kept.

    Args:
        path: where the whole blob is, once it is verified.
    """

    def __init__(self, path: str) -> None:
        self._path: Final = path
        self._partial: Final = f"{path}.partial"

    @property
    def offset(self) -> int:
        """Bytes that are there."""
        try:
            return os.stat(self._partial).st_size
        except OSError:
            return 0

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            ResourceExhausted, PermissionDenied, DataLoss: the disk does not take them.
        """
        try:
            with open(self._partial, "ab", buffering=0, opener=_private) as file:
                while data:
                    data = data[file.write(data) :]
        except OSError as error:
            raise from_os_error(error, f"blob {self._path!r}") from error

    def open(self) -> int:
        """Return a descriptor that reads what is there from its beginning; the caller's to close.

        Raises:
            NotFound, PermissionDenied: it cannot be read.
        """
        try:
            return os.open(self._partial, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise from_os_error(error, f"blob {self._path!r}") from error

    def commit(self) -> None:
        """Make what is there the blob.

        Raises:
            ResourceExhausted, PermissionDenied, DataLoss: the disk did not take it.
        """
        try:
            descriptor = self.open()
            try:
                # A file that has its name is whole: nobody checks it again.
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(self._partial, self._path)
        except OSError as error:
            raise from_os_error(error, f"blob {self._path!r}") from error

    def discard(self) -> None:
        """Delete what is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._partial)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
