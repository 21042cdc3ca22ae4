"""The content store: immutable blobs under their digests, with labels beside them.

The file `blobs/<algorithm>/<hex>` is the truth about existence, and it gets that name only
when all its bytes are right and on disk. Labels live in the node's database.

Locks, in the order in which they are taken: the *blob lock* of who downloads or deletes a
blob, given out by `blob_lock`; then the *change lock*, taken here for the moments in which
file and labels change together. Who holds a change lock waits for no other lock file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from snapcore import labels as label_rules
from snapcore.content.area import Area
from snapcore.content.blobs import Blobs
from snapcore.content.ingest import Ingest
from snapcore.content.layout import Layout, os_errors
from snapcore.content.quarantine import Quarantine, Quarantined
from snapcore.content.types import (
    ContentInfo,
    ContentUsage,
    IngestStatus,
    LabelRecord,
    LabelStore,
)
from snapcore.content.verify import VerifiedReader
from snapcore.errors import (
    AlreadyExists,
    DigestMismatch,
    InvalidArgument,
    PermissionDenied,
    RefusedInput,
)
from snapcore.filters import compile_filters, record_fields
from snapcore.locks import FileLock, Owner
from snapcore.oci import Descriptor, Digest

_T = TypeVar("_T")
_FIELDS: Final = ("digest", "size", "labels")


class ContentStore:
    """Blobs and unfinished blobs below one root. Safe for threads and processes.

    Args:
        root: directory of the store; made when it is first written to.
        labels: where labels are kept.
        locks: the node's directory of lock files, which exists.
        owner: this process; None opens the store for reading only.
    """

    __slots__ = ("_area", "_blobs", "_labels", "_layout", "_owner")

    def __init__(self, root: str, labels: LabelStore, *, locks: str, owner: Owner | None) -> None:
        self._layout: Final = Layout(root, locks)
        self._labels: Final = labels
        self._owner: Final = owner
        self._blobs: Final = Blobs(self._layout)
        self._area: Final = Area(self._layout, owner.id if owner else "")

    @property
    def root(self) -> str:
        """The directory that holds everything."""
        return self._layout.root

    def exists(self, digest: Digest) -> bool:
        """Tell whether a blob is there, whole."""
        return self._blobs.stat(digest) is not None

    def info(self, digest: Digest) -> ContentInfo:
        """Return what is known of a blob.

        Raises:
            NotFound: no such blob.
        """
        status = self._blobs.found(digest)
        return _info(digest, status, self._labels.get(digest))

    def walk(
        self, filters: Sequence[str] = (), *, after: Digest | None = None
    ) -> Iterator[ContentInfo]:
        """Yield blobs, sorted by digest. What exists throughout is seen exactly once.

        Args:
            filters: OR-ed; see `snapcore.filters`. Fields: `digest`, `size`, `labels`.
            after: where to go on, excluded.

        Raises:
            InvalidArgument: a filter does not parse; raised before the first blob.
        """
        matches = compile_filters(filters, _FIELDS)
        return (
            info
            for info in self._infos(after)
            if matches(
                record_fields({"digest": str(info.digest), "size": str(info.size)}, info.labels)
            )
        )

    def sizes(self) -> Iterator[tuple[Digest, int]]:
        """Yield every blob with its bytes, sorted by digest, without looking at labels."""
        return ((digest, status.st_size) for digest, status in self._blobs.walk(None))

    def usage(self) -> ContentUsage:
        """Return how much there is, without looking at labels."""
        sizes = [size for _, size in self.sizes()]
        ingests = self._area.statuses()
        return ContentUsage(
            len(sizes), sum(sizes), len(ingests), sum(status.offset for status in ingests)
        )

    def open_blob(self, digest: Digest) -> int:
        """Open a blob's file, read-only and close-on-exec. The bytes are not verified here.

        Returns:
            A descriptor, for the caller to close; it outlives a deletion of the blob.

        Raises:
            NotFound: no such blob.
        """
        return self._blobs.open(digest)

    def reader(self, digest: Digest) -> VerifiedReader:
        """Open a blob for reading with its digest verified at the end.

        Raises:
            NotFound: no such blob.
        """
        descriptor = self.open_blob(digest)
        file = io.FileIO(descriptor, closefd=True)
        return VerifiedReader(file, digest, os.fstat(descriptor).st_size)

    def read_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Read a small blob, such as a manifest, whole and verified.

        Args:
            descriptor: says its digest and size.
            limit: most bytes that are read into memory.

        Raises:
            NotFound: no such blob.
            RefusedInput: the descriptor says that it is larger than `limit`.
            DigestMismatch: its size or its bytes are not what the descriptor says.
        """
        if descriptor.size > limit:
            raise RefusedInput(
                f"blob {descriptor.digest} has {descriptor.size} bytes; at most {limit} are"
                f" accepted of type {descriptor.media_type!r}"
            )
        opened = self.open_blob(descriptor.digest)
        with os_errors(f"blob {descriptor.digest}"), io.FileIO(opened, closefd=True) as file:
            size = os.fstat(opened).st_size
            if size != descriptor.size:
                raise DigestMismatch(
                    f"blob {descriptor.digest} has {size} bytes, its descriptor says"
                    f" {descriptor.size}"
                )
            with VerifiedReader(file, descriptor.digest, descriptor.size) as reader:
                return reader.readall()

    def path(self, digest: Digest) -> str:
        """Return the path of a blob's file, there or not."""
        return self._layout.blob(digest)

    def blob_lock(self, digest: Digest) -> FileLock:
        """Return the lock, not yet taken, of who downloads a blob; `delete` takes it too."""
        return FileLock(self._layout.blob_lock(digest))

    def update(
        self, digest: Digest, labels: Mapping[str, str], fieldpaths: Sequence[str] = ()
    ) -> ContentInfo:
        """Change labels; bump `updated`, keep `created`.

        Args:
            digest: names the blob.
            labels: the new labels.
            fieldpaths: none or ("labels",) replaces all labels; `labels.<key>` sets that one
                key, which an empty or missing value deletes.

        Raises:
            NotFound: no such blob.
            InvalidArgument: any other field path, or a label breaks a rule.
            Unavailable: others keep changing the blob.
        """
        label_rules.check(labels)
        changes = _changes(labels, fieldpaths)
        self._check_writable()
        with self._blobs.changing(digest):
            status = self._blobs.found(digest)
            if changes is None:
                record = self._labels.replace(digest, labels)
            else:
                record = self._labels.change(digest, changes)
        return _info(digest, status, record)

    def delete(self, digest: Digest) -> None:
        """Delete a blob and its labels. Who has it open can read on.

        Must not be called by a holder of its blob lock.

        Raises:
            NotFound: no such blob.
            Unavailable: somebody holds its blob lock, or is changing it.
        """
        self._take_away(digest, self._blobs.unlink)

    def quarantine(self, digest: Digest) -> str:
        """Set a damaged blob aside: it is not there any more, and neither are its labels.

        Must not be called by a holder of its blob lock.

        Returns:
            Where its bytes are now.

        Raises:
            NotFound: no such blob.
            Unavailable: somebody holds its blob lock, or is changing it.
        """
        return self._take_away(digest, self._blobs.set_aside)

    def ingest(
        self,
        ref: str,
        *,
        total: int = 0,
        expected: Digest | None = None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> Ingest:
        """Become the writer of a blob, and resume what an earlier writer left.

        What is on disk is hashed again; `Ingest.offset` says where to go on. If it was begun
        for another digest or total, it starts over; so does one without an expected digest
        from before the last boot, since a power cut may have spoilt it.

        Args:
            ref: the writer's name for the blob, such as `layer-sha256:…`; any text.
            total: bytes expected, 0 if unknown.
            expected: digest expected, if known; its algorithm is used, else sha256.
            checkpoint: called while hashing; what it raises goes through, progress is kept.

        Raises:
            AlreadyExists: the expected blob is there.
            Unavailable: another thread or process writes this ref.
            InvalidArgument: an empty ref or a negative total.
            PermissionDenied: the store was opened for reading only.
            DataLoss: what is on disk cannot be read; it was set aside.
        """
        self._check_writable()
        if expected and self.exists(expected):
            raise AlreadyExists(f"blob {expected} is in the content store already")
        opened = self._area.open(ref, total, expected)
        return Ingest(self._area, opened, self._publish, checkpoint)

    def status(self, ref: str) -> IngestStatus:
        """Return how far an ingest has come.

        Raises:
            NotFound: no such ingest.
            InvalidArgument: an empty ref.
        """
        return self._area.status(ref)

    def statuses(self) -> tuple[IngestStatus, ...]:
        """Return all ingests, sorted by ref."""
        return self._area.statuses()

    def abort(self, ref: str) -> None:
        """Throw an unfinished blob away.

        Raises:
            NotFound: no such ingest.
            Unavailable: somebody is writing it.
            InvalidArgument: an empty ref.
        """
        self._check_writable()
        self._area.abort(ref)

    def quarantined(self) -> Quarantined:
        """Return how much damaged data is set aside."""
        return Quarantine(self._layout.quarantined).measure()

    def expire_quarantine(self) -> int:
        """Delete what was set aside long ago; return how many things.

        Raises:
            PermissionDenied: the store was opened for reading only.
        """
        self._check_writable()
        return Quarantine(self._layout.quarantined).expire()

    def cleanup(self) -> int:
        """Finish deletions and forget ingests that cannot be resumed, both left by crashes.

        Safe at any time.

        Returns:
            How many directories are gone.

        Raises:
            PermissionDenied: the store was opened for reading only.
        """
        self._check_writable()
        return self._area.cleanup()

    def _take_away(self, digest: Digest, how: Callable[[Digest], _T]) -> _T:
        self._check_writable()
        lock = self.blob_lock(digest)
        with os_errors(f"lock of blob {digest}"):
            lock.acquire_or_raise(f"blob {digest}")
        try:
            with self._blobs.changing(digest):
                self._blobs.found(digest)
                # In this order, a crash leaves a blob without labels, which can be collected,
                # and never labels without a blob, which a later one would get.
                self._labels.delete(digest)
                return how(digest)
        finally:
            lock.discard()

    def _publish(
        self, data: str, digest: Digest, size: int, labels: Mapping[str, str]
    ) -> ContentInfo:
        with self._blobs.changing(digest):
            status = self._blobs.publish(data, digest)
            return _info(digest, status, self._labels.create(digest, size, labels))

    def _check_writable(self) -> None:
        if self._owner is None:
            raise PermissionDenied(f"content store {self._layout.root!r} is open for reading only")

    def _infos(self, after: Digest | None) -> Iterator[ContentInfo]:
        for digest, status in self._blobs.walk(after):
            yield _info(digest, status, self._labels.get(digest))


def _info(digest: Digest, status: os.stat_result, record: LabelRecord | None) -> ContentInfo:
    if record is None:
        written = status.st_mtime_ns
        return ContentInfo(digest, status.st_size, written, written)
    return ContentInfo(digest, status.st_size, record.created, record.updated, record.labels)


def _changes(labels: Mapping[str, str], fieldpaths: Sequence[str]) -> dict[str, str] | None:
    """Return the single labels to change, None to replace all."""
    changes: dict[str, str] = {}
    for path in fieldpaths:
        head, _, key = path.partition(".")
        if head != "labels" or (not key and path != "labels"):
            raise InvalidArgument(
                f"cannot update field {path!r} of a blob: only 'labels' and 'labels.<key>' can"
                " be changed"
            )
        changes[key] = labels.get(key, "")
    return changes if fieldpaths and "labels" not in fieldpaths else None
