"""Writing one blob: resumable until it is committed, whole ever after."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from snapcore import labels as label_rules
from snapcore.content.area import Area, Opened
from snapcore.content.layout import os_errors
from snapcore.content.types import ContentInfo, IngestStatus
from snapcore.errors import (
    AlreadyExists,
    DataLoss,
    DigestMismatch,
    FailedPrecondition,
    SnapcoreError,
    from_os_error,
)
from snapcore.faults import reach
from snapcore.oci import Digest, new_hasher

_HASH_BYTES: Final = 1024 * 1024


class Publisher(Protocol):
    """How a finished file becomes a blob; the content store."""

    def __call__(
        self, data: str, digest: Digest, size: int, labels: Mapping[str, str]
    ) -> ContentInfo:
        """Move the file `data`, which is on disk already, to its place for good.

        Raises:
            AlreadyExists: the blob is there; the file was left alone.
        """


class Ingest:
    """The one writer of a ref. Made by `ContentStore.ingest`; used by one thread at a time.

    Leaving a `with` block closes it and keeps what was written, for the next one to resume.
    """

    __slots__ = ("_area", "_hasher", "_offset", "_opened", "_publish", "_where")

    def __init__(
        self, area: Area, opened: Opened, publish: Publisher, checkpoint: Callable[[], None]
    ) -> None:
        self._area: Final = area
        self._publish: Final = publish
        self._where: Final = f"ingest {opened.ref!r}"
        self._opened: Opened | None = opened
        expected = opened.expected
        algorithm = expected.algorithm if expected else "sha256"
        self._offset, self._hasher = 0, new_hasher(algorithm)
        try:
            self._hash_file(opened, algorithm, checkpoint)
        finally:
            # Cancelled: what there is stays for the next writer.
            if self._offset != opened.size:
                self.close()

    @property
    def offset(self) -> int:
        """How many bytes there are; the next write continues here."""
        return self._offset

    @property
    def digest(self) -> Digest:
        """The digest of the bytes so far, with the algorithm that is expected, else sha256."""
        expected = self._live().expected
        return Digest(expected.algorithm if expected else "sha256", self._hasher.hexdigest())

    @property
    def status(self) -> IngestStatus:
        """How far this ingest has come.

        Raises:
            FailedPrecondition: it is closed.
        """
        return self._area.status_of(self._live())

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; pieces of 256 KiB and more are cheapest, and release the GIL.

        Returns:
            The new offset.

        Raises:
            DigestMismatch: more than the total; the ingest is thrown away.
            ResourceExhausted: no space; the ingest is closed, and can be resumed from what fitted.
            DataLoss: the medium failed; the ingest is set aside.
            FailedPrecondition: the ingest is closed.
        """
        opened = self._live()
        view = memoryview(data).cast("B")
        if opened.total and self._offset + len(view) > opened.total:
            self._end(keep=False)
            raise DigestMismatch(f"{self._where}: more than the {opened.total} bytes expected")
        while view:
            reach("write", opened.ref)
            try:
                count = os.write(opened.descriptor, view)
            except OSError as error:
                raise self._failed(error) from error
            self._hasher.update(view[:count])
            self._offset += count
            view = view[count:]
        return self._offset

    def truncate(self) -> None:
        """Throw the bytes away and begin again at offset 0.

        Raises:
            DataLoss: the medium failed; the ingest is set aside.
            FailedPrecondition: the ingest is closed.
        """
        opened = self._live()
        try:
            os.ftruncate(opened.descriptor, 0)
        except OSError as error:
            raise self._failed(error) from error
        algorithm = opened.expected.algorithm if opened.expected else "sha256"
        self._offset, self._hasher = 0, new_hasher(algorithm)

    def commit(
        self,
        *,
        size: int | None = None,
        expected: Digest | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ContentInfo:
        """Make the bytes a blob, on disk for good when this returns. Ends the ingest.

        Args:
            size: bytes there must be; None for the total given at the beginning, if any.
            expected: what the digest must be; None for the one given at the beginning, if any.
            labels: of the new blob.

        Returns:
            The new blob.

        Raises:
            AlreadyExists: the blob is there, which is as good; its labels are unchanged. The
                ingest is thrown away.
            DigestMismatch: size or digest differ; the ingest is thrown away, since resuming it
                could not help.
            InvalidArgument: a label breaks a rule; the ingest stays open.
            ResourceExhausted: no space for the last bytes; the ingest is thrown away, since
                what is on disk is not known any more.
            DataLoss: the medium failed; the ingest is set aside.
            Unavailable: the blob is being changed; the ingest is closed and can be resumed.
            FailedPrecondition: the ingest is closed.
        """
        opened = self._live()
        label_rules.check(labels or {})
        digest = self._checked(opened, size, expected)
        try:
            os.fchmod(opened.descriptor, 0o444)
            os.fsync(opened.descriptor)
        except OSError as error:
            # Final: after a failed fsync the kernel may call lost pages clean (fsync(2)).
            raise self._failed(error, keep=False) from error
        try:
            info = self._publish(opened.data, digest, self._offset, labels or {})
        except AlreadyExists:
            self._end(keep=False)
            raise
        except BaseException:
            self._end(keep=os.path.exists(opened.data))
            raise
        self._end(keep=False)
        return info

    def close(self) -> None:
        """Release the ref and keep what was written; nothing happens if it is closed."""
        self._end(keep=True)

    def abort(self) -> None:
        """Throw the ingest away; nothing happens if it is closed."""
        self._end(keep=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _live(self) -> Opened:
        if self._opened is None:
            raise FailedPrecondition(f"{self._where} is closed; open it again to resume")
        return self._opened

    def _checked(self, opened: Opened, size: int | None, expected: Digest | None) -> Digest:
        size = (opened.total or None) if size is None else size
        expected = expected or opened.expected
        if size is not None and self._offset != size:
            self._end(keep=False)
            raise DigestMismatch(f"{self._where}: {self._offset} bytes instead of {size}")
        known = opened.expected.algorithm if opened.expected else "sha256"
        algorithm = expected.algorithm if expected else known
        if algorithm != known:
            self._hash_file(opened, algorithm, lambda: None)
        digest = Digest(algorithm, self._hasher.hexdigest())
        if expected and digest != expected:
            self._end(keep=False)
            raise DigestMismatch(f"{self._where}: the bytes are {digest}, not {expected}")
        return digest

    def _hash_file(self, opened: Opened, algorithm: str, checkpoint: Callable[[], None]) -> None:
        """Hash what is on disk, from the beginning, and take its length for the offset."""
        hasher, offset = new_hasher(algorithm), 0
        buffer = memoryview(bytearray(_HASH_BYTES))
        try:
            while count := os.preadv(opened.descriptor, [buffer], offset):
                hasher.update(buffer[:count])
                offset += count
                checkpoint()
        except OSError as error:
            raise self._failed(error) from error
        self._offset, self._hasher = offset, hasher

    def _failed(self, error: OSError, *, keep: bool = True) -> SnapcoreError:
        opened = self._live()
        mapped = from_os_error(error, f"{self._where} in {opened.directory!r}")
        if error.errno == errno.EIO:
            self._opened = None
            kept = self._area.quarantine(opened)
            return DataLoss(f"{mapped}; what was written is set aside in {kept!r}")
        self._end(keep=keep)
        return mapped

    def _end(self, *, keep: bool) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with os_errors(self._where):
                self._area.release(opened, keep=keep)
