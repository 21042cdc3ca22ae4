"""The right to download one blob, and how a finished one enters the content store.

The blob lock is held from before the first byte until the commit, so that a digest is
downloaded once, however many threads and processes want it and whatever they call it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from snapcore.content import ContentInfo, ContentStore, Ingest
from snapcore.errors import AlreadyExists, DigestMismatch, NotFound, Unavailable, from_os_error
from snapcore.labels import MAX_LABEL_BYTES, distribution_source
from snapcore.locks import FileLock
from snapcore.oci import Descriptor, is_image_config, is_index, is_layer, is_manifest
from snapcore.registry.interrupt import checkpoint


def ingest_ref(descriptor: Descriptor) -> str:
    """Return the ingest ref for a blob, named by its kind as containerd names it."""
    media_type = descriptor.media_type
    if is_manifest(media_type):
        kind = "manifest"
    elif is_index(media_type):
        kind = "index"
    elif is_layer(media_type):
        kind = "layer"
    else:
        kind = "config" if is_image_config(media_type) else "unknown"
    return f"{kind}-{descriptor.digest}"


class Claim:
    """An open ingest under the blob's lock."""

    __slots__ = ("_lock", "ingest")

    def __init__(self, ingest: Ingest, lock: FileLock) -> None:
        self.ingest: Final = ingest
        self._lock: Final = lock

    def close(self) -> None:
        """Let others have the blob; what has come of it is kept. May be called again."""
        try:
            if self.ingest.offset:
                self.ingest.close()
            else:
                self.ingest.abort()
        finally:
            self._lock.discard()


@dataclass(frozen=True, slots=True)
class Shelf:
    """The content store as one repository's downloads, or an import, see it. All methods block.

    Attributes:
        store: where blobs go.
        host: the registry's name, as in references; "" if they come from no registry.
        repository: the path below it.
    """

    store: ContentStore
    host: str
    repository: str

    def claim(self, descriptor: Descriptor) -> ContentInfo | Claim | None:
        """Return the blob if it is there, the right to write it, or None: somebody else has that.

        Raises:
            DigestMismatch: the blob is there with another size than the descriptor's.
            ResourceExhausted, PermissionDenied, DataLoss: the store's.
        """
        with suppress(NotFound):
            return self.found(descriptor)
        lock = self.store.blob_lock(descriptor.digest)
        if not _try_lock(lock, descriptor):
            return None
        try:
            ingest = self.store.ingest(
                ingest_ref(descriptor),
                total=descriptor.size,
                expected=descriptor.digest,
                checkpoint=checkpoint,
            )
        except AlreadyExists:
            # Its downloader ended between our look and our lock.
            lock.discard()
            return self.found(descriptor)
        except Unavailable:
            lock.discard()
            return None
        except BaseException:
            lock.discard()
            raise
        return Claim(ingest, lock)

    def found(self, descriptor: Descriptor) -> ContentInfo:
        """Return the blob, and record that this repository, if there is one, has it as well.

        Raises:
            NotFound: no such blob.
            DigestMismatch: its size is not the descriptor's.
        """
        info = self.store.info(descriptor.digest)
        if info.size != descriptor.size:
            raise DigestMismatch(
                f"{str(descriptor.digest)!r} has {info.size} bytes, not {descriptor.size}"
                " as its descriptor says"
            )
        if not self.host:
            return info
        key = distribution_source(self.host)
        known = info.labels.get(key, "")
        value = f"{known},{self.repository}" if known else self.repository
        fits = len(key.encode()) + len(value.encode()) <= MAX_LABEL_BYTES
        if self.repository in known.split(",") or not fits:
            return info
        return self.store.update(info.digest, {key: value}, (f"labels.{key}",))

    def commit(self, descriptor: Descriptor, claim: Claim) -> ContentInfo:
        """Make the claim's bytes a blob that names this repository, if any, as its source.

        Raises:
            DigestMismatch: they are not what the descriptor says; the ingest is gone.
            ResourceExhausted, DataLoss: the store's.
        """
        labels = {distribution_source(self.host): self.repository} if self.host else {}
        try:
            return claim.ingest.commit(
                size=descriptor.size, expected=descriptor.digest, labels=labels
            )
        except AlreadyExists:
            return self.found(descriptor)

    def write(self, descriptor: Descriptor, claim: Claim, data: bytes) -> ContentInfo:
        """Commit bytes that are in memory already; errors as `commit`."""
        claim.ingest.truncate()
        claim.ingest.write(data)
        return self.commit(descriptor, claim)


def _try_lock(lock: FileLock, descriptor: Descriptor) -> bool:
    try:
        return lock.try_acquire()
    except OSError as error:
        raise from_os_error(error, f"lock of blob {str(descriptor.digest)!r}") from error
