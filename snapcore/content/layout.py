"""Where things are below a content root, and the file steps that several modules share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from snapcore.errors import InvalidArgument, from_os_error
from snapcore.oci import Digest

_REMOVED: Final = "rm-"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a content store.

    `blobs/<algorithm>/<hex>` are whole blobs; `ingest/<sha256 of ref>/` holds what is being
    written, `ingest/rm-*` what is being deleted; `quarantine/` what the medium has damaged.

    Attributes:
        root: the store's directory.
        locks: the node's directory of lock files.
    """

    root: str
    locks: str

    @property
    def blobs(self) -> str:
        """The directory of the algorithms' directories."""
        return os.path.join(self.root, "blobs")

    @property
    def ingests(self) -> str:
        """The directory of unfinished blobs."""
        return os.path.join(self.root, "ingest")

    @property
    def quarantined(self) -> str:
        """The directory of what the medium has damaged."""
        return os.path.join(self.root, "quarantine")

    def blob(self, digest: Digest) -> str:
        """Return the path of a blob."""
        return os.path.join(self.root, "blobs", digest.algorithm, digest.hex)

    def ingest(self, ref: str) -> str:
        """Return the directory of an ingest.

        Raises:
            InvalidArgument: the ref is empty or not valid Unicode.
        """
        if not ref:
            raise InvalidArgument("an ingest needs a ref that is not empty")
        try:
            name = hashlib.sha256(ref.encode()).hexdigest()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"ingest ref {ref[:100]!r} is not valid Unicode") from error
        return os.path.join(self.ingests, name)

    def blob_lock(self, digest: Digest) -> str:
        """Return the lock file of who downloads or deletes a blob: may be held for long."""
        return os.path.join(self.locks, f"blob-{digest.algorithm}-{digest.hex}")

    def change_lock(self, digest: Digest) -> str:
        """Return the lock file of who changes file and labels together: held for moments."""
        return os.path.join(self.locks, f"change-{digest.algorithm}-{digest.hex}")

    def removed(self, directory: str, unique: str) -> str:
        """Return the name under which an ingest's directory waits for its deletion."""
        return os.path.join(self.ingests, f"{_REMOVED}{os.path.basename(directory)}-{unique}")

    def quarantine(self, path: str, unique: str) -> str:
        """Return where an ingest or a blob goes that the medium has damaged."""
        return os.path.join(self.quarantined, f"{os.path.basename(path)}-{unique}")


def is_removed(name: str) -> bool:
    """Tell whether an entry of `ingest/` only waits for its deletion."""
    return name.startswith(_REMOVED)


def listing(directory: str) -> list[str]:
    """Return the sorted names in a directory, none if there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def make_durable_directory(path: str) -> None:
    """Create a directory and its parents, mode 0700; new ones survive a power cut."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_durable_directory(parent)
    os.makedirs(path, mode=0o700, exist_ok=True)
    sync_directory(parent)


def sync_directory(path: str) -> None:
    """Write out the entries of a directory (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn every OSError of a block into an error of ours that names `what`."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, what) from error
