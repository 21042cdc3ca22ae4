"""The files of whole blobs: found, opened, put in place, deleted. Labels are not known here."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.content.layout import (
    Layout,
    listing,
    make_durable_directory,
    os_errors,
    sync_directory,
)
from snapcore.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from snapcore.locks import FileLock
from snapcore.oci import Digest

_ALGORITHMS: Final = ("sha256", "sha512")
_CHANGE_SECONDS: Final = 60.0


class Blobs:
    """The blobs of one content store, as files. All methods raise what `os_errors` maps."""

    __slots__ = ("_layout",)

    def __init__(self, layout: Layout) -> None:
        self._layout: Final = layout

    def stat(self, digest: Digest) -> os.stat_result | None:
        """Return the status of a blob's file, None if there is none."""
        with os_errors(f"blob {digest}"):
            try:
                status = os.lstat(self._layout.blob(digest))
            except FileNotFoundError:
                return None
        return status if stat.S_ISREG(status.st_mode) else None

    def found(self, digest: Digest) -> os.stat_result:
        """Return the status of a blob's file.

        Raises:
            NotFound: no such blob.
        """
        status = self.stat(digest)
        if status is None:
            raise NotFound(f"no blob {digest} in the content store")
        return status

    def open(self, digest: Digest) -> int:
        """Open a blob's file for reading.

        Raises:
            NotFound: no such blob.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        with os_errors(f"blob {digest}"):
            try:
                return os.open(self._layout.blob(digest), flags)
            except FileNotFoundError:
                raise NotFound(f"no blob {digest} in the content store") from None

    def walk(self, after: Digest | None) -> Iterator[tuple[Digest, os.stat_result]]:
        """Yield digest and file status of all blobs after `after`, sorted by digest."""
        for algorithm in _ALGORITHMS:
            with os_errors(f"content store {self._layout.root!r}"):
                names = listing(os.path.join(self._layout.blobs, algorithm))
            for name in names:
                try:
                    digest = Digest.parse(f"{algorithm}:{name}")
                except InvalidArgument:
                    continue
                status = None if after and digest <= after else self.stat(digest)
                if status is not None:
                    yield digest, status

    @contextmanager
    def changing(self, digest: Digest) -> Iterator[None]:
        """Hold the change lock of a blob.

        Raises:
            Unavailable: others hold it far longer than it takes.
        """
        lock = FileLock(self._layout.change_lock(digest))
        deadline = time.monotonic() + _CHANGE_SECONDS

        def check_deadline() -> None:
            if time.monotonic() > deadline:
                raise Unavailable(f"blob {digest} is being changed by others ({lock.path!r})")

        with os_errors(f"lock of blob {digest}"):
            lock.acquire(check_deadline)
        try:
            yield
        finally:
            lock.discard()

    def publish(self, data: str, digest: Digest) -> os.stat_result:
        """Move a file that is on disk to its blob's place, for good; under the change lock.

        Raises:
            AlreadyExists: the blob is there; `data` was left alone.
        """
        target = self._layout.blob(digest)
        directory = os.path.dirname(target)
        if self.stat(digest) is not None:
            raise AlreadyExists(f"blob {digest} is in the content store already")
        with os_errors(f"blob {digest}"):
            make_durable_directory(directory)
            os.rename(data, target)
            try:
                sync_directory(directory)
            except OSError:
                # Not known to be on disk, and a second fsync would not tell.
                os.unlink(target)
                raise
            return os.stat(target)

    def unlink(self, digest: Digest) -> None:
        """Delete a blob's file; under the change lock."""
        with os_errors(f"blob {digest}"):
            os.unlink(self._layout.blob(digest))

    def set_aside(self, digest: Digest) -> str:
        """Move a blob's file out of the way; under the change lock. Return where it is now."""
        target = self._layout.quarantine(self._layout.blob(digest), uuid.uuid4().hex)
        with os_errors(f"blob {digest}"):
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(self._layout.blob(digest), target)
        return target
