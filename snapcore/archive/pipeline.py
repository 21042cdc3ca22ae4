"""A layer's uncompressed bytes by way of two threads, and its digests at the end.

One thread reads, hashes and inflates the blob; a second one hashes what comes out (the diff ID);
the caller parses at the same time. All three release the interpreter lock while they work on a
block. Blocks are handed over by reference in bounded channels, so memory does not depend on the
layer's size.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from snapcore.archive.blocks import BlockReader
from snapcore.archive.compression import ByteStream, open_stream
from snapcore.archive.types import Limits
from snapcore.errors import FailedPrecondition, from_os_error
from snapcore.oci import Digest
from snapcore.oci.digest import new_hasher

_CHANNEL_BLOCKS: Final = 8


@dataclass(frozen=True, slots=True)
class LayerDigests:
    """What a layer turned out to be.

    Attributes:
        blob: digest of the compressed bytes.
        blob_size: how many there were.
        diff_id: digest of the uncompressed bytes.
        size: how many there were.
    """

    blob: Digest
    blob_size: int
    diff_id: Digest
    size: int


class _Channel:
    """A bounded queue of blocks with one writer and one reader, which either may close."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, block: bytes) -> bool:
        """Hand a block over, waiting for room; return False once closed."""
        with self._changed:
            while len(self._blocks) >= _CHANNEL_BLOCKS and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._blocks.append(block)
            self._changed.notify()
            return True

    def get(self) -> bytes:
        """Return the next block, waiting for it; b"" once closed and empty."""
        with self._changed:
            while not self._blocks and not self._closed:
                self._changed.wait()
            if not self._blocks:
                return b""
            self._changed.notify()
            return self._blocks.popleft()

    def close(self, *, discard: bool = False) -> None:
        """End the channel for both sides; the reader still gets what is in it, or nothing."""
        with self._changed:
            self._closed = True
            if discard:
                self._blocks.clear()
            self._changed.notify_all()


class LayerStream(BlockReader):
    """The uncompressed bytes of a layer; use it as a context manager.

    Nothing read from it is verified before `finish` has returned digests and the caller has
    compared them. Leaving the context early ends both threads, even while they wait for a pipe.
    """

    def __init__(
        self,
        descriptor: int,
        limits: Limits,
        *,
        blob_algorithm: str = "sha256",
        diff_algorithm: str = "sha256",
        on_read: Callable[[int], None] | None = None,
    ) -> None:
        """Start reading.

        Args:
            descriptor: the open blob: file, pipe or socket; stays the caller's.
            limits: budgets.
            blob_algorithm: of the blob's digest.
            diff_algorithm: of the diff ID.
            on_read: told the number of compressed bytes read so far, in the caller's thread,
                each time a block is taken.

        Raises:
            InvalidArgument: an algorithm is not registered.
            ResourceExhausted: no descriptor is left.
        """
        super().__init__(self._take)
        self._limits = limits
        self._descriptor = descriptor
        self._blob_algorithm = blob_algorithm
        self._diff_algorithm = diff_algorithm
        self._hasher = new_hasher(diff_algorithm)
        new_hasher(blob_algorithm)
        self._on_read = on_read
        self._stream: ByteStream | None = None
        self._parsing = _Channel()
        self._hashing = _Channel()
        self._interrupt = _eventfd()
        self._closed = False
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="layer")
        self._inflated: Future[ByteStream] = self._threads.submit(self._inflate)
        self._hashed: Future[None] = self._threads.submit(self._hash)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def finish(self) -> LayerDigests:
        """Read what is left to the end of the blob and return the digests.

        Raises:
            RefusedInput: damaged, cut or past a budget.
            FailedPrecondition: the stream was closed before.
            SnapcoreError: reading failed, see `from_os_error`.
        """
        while self._advance():
            pass
        stream = self._inflated.result()
        self._hashed.result()
        return LayerDigests(
            blob=stream.blob_digest(),
            blob_size=stream.blob_size,
            diff_id=Digest(self._diff_algorithm, self._hasher.hexdigest()),
            size=stream.size,
        )

    def close(self) -> None:
        """End both threads and wait for them; nothing can be read afterwards. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._parsing.close(discard=True)
        self._hashing.close(discard=True)
        os.eventfd_write(self._interrupt, 1)
        self._threads.shutdown()
        os.close(self._interrupt)

    def _take(self) -> bytes:
        if self._closed:
            raise FailedPrecondition("the layer stream is closed")
        block = self._parsing.get()
        if self._on_read is not None and self._stream is not None:
            self._on_read(self._stream.blob_size)
        if not block:
            # The end, or the end of a thread: its error is raised here, in the caller.
            self._inflated.result()
            self._hashed.result()
        return block

    def _inflate(self) -> ByteStream:
        try:
            stream = open_stream(
                self._descriptor,
                self._limits,
                algorithm=self._blob_algorithm,
                interrupt=self._interrupt,
            )
            self._stream = stream
            for block in stream:
                if not (self._hashing.put(block) and self._parsing.put(block)):
                    break
            return stream
        finally:
            self._hashing.close()
            self._parsing.close()

    def _hash(self) -> None:
        try:
            while block := self._hashing.get():
                self._hasher.update(block)
        finally:
            self._hashing.close(discard=True)


def _eventfd() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, "starting to read a layer") from error
