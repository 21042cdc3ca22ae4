"""How bytes from outside any registry enter the content store: as pulls do, under their locks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from snapcore.content import ContentInfo, ContentStore
from snapcore.errors import AlreadyExists, from_os_error
from snapcore.oci import Descriptor, Digest
from snapcore.registry.claim import Claim, Shelf
from snapcore.registry.interrupt import checkpoint

_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Intake:
    """Copies blobs into a content store, verified. All methods block.

    Nothing is left of a copy that fails: its bytes can come once more, and nobody resumes it.

    Attributes:
        store: where they go.
    """

    store: ContentStore

    def take(
        self,
        descriptor: Descriptor,
        pieces: Iterable[bytes | memoryview],
        progress: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """Copy a blob whose digest is known.

        Args:
            descriptor: the blob.
            pieces: its bytes; not looked at if the store has it.
            progress: told the bytes copied so far.

        Returns:
            True if it was copied, False if the store had it.

        Raises:
            DigestMismatch: it is not what its digest and size say, or is there in another size.
            ResourceExhausted, DataLoss: the store's.
        """
        shelf = Shelf(self.store, "", "")
        claim = _claim(shelf, descriptor)
        if isinstance(claim, ContentInfo):
            return False
        try:
            claim.ingest.truncate()
            for piece in pieces:
                progress(claim.ingest.write(piece))
                checkpoint()
            shelf.commit(descriptor, claim)
        except BaseException:
            claim.ingest.abort()
            raise
        finally:
            claim.close()
        return True

    def take_unknown(self, pieces: Iterable[bytes | memoryview]) -> tuple[Digest, int]:
        """Copy a blob whose digest will be known at its end; return digest and size.

        Raises:
            ResourceExhausted, DataLoss: the store's.
        """
        ingest = self.store.ingest(f"import-{uuid.uuid4().hex}")
        try:
            for piece in pieces:
                ingest.write(piece)
                checkpoint()
            digest, size = ingest.digest, ingest.offset
            lock = self.store.blob_lock(digest)
            try:
                lock.acquire(checkpoint)
            except OSError as error:
                raise from_os_error(error, f"lock of blob {str(digest)!r}") from error
            try:
                with suppress(AlreadyExists):
                    ingest.commit(size=size, expected=digest)
            finally:
                lock.discard()
        except BaseException:
            ingest.abort()
            raise
        return digest, size


def _claim(shelf: Shelf, descriptor: Descriptor) -> ContentInfo | Claim:
    # Polled, because no wait on a lock file can be cancelled.
    while (claim := shelf.claim(descriptor)) is None:
        checkpoint()
        time.sleep(_POLL_SECONDS)
    return claim
