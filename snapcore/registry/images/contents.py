"""One pass over an image archive: documents into memory, all else into the content store.

An archive may come through a pipe, so nothing is read twice and nothing is written beside the
store: a blob is stored as it goes by, before anything says whether an image needs it. What no
image needs is left to the collector.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from snapcore.archive import Compression, Entry, EntryType, TarReader
from snapcore.archive.compression import detect
from snapcore.errors import InvalidArgument, RefusedInput
from snapcore.oci import Descriptor, Digest
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry.images.documents import DOCKER_MANIFESTS, INDEX, MARKER
from snapcore.registry.images.intake import Intake

MAX_DOCUMENTS_BYTES: Final = 64 << 20
"""Most bytes of documents kept in memory together."""
_MAX_LINKS: Final = 40
_HEAD: Final = 512
_TAR_MAGIC: Final = slice(257, 262)
_NAMED_DOCUMENTS: Final = frozenset({MARKER, INDEX, DOCKER_MANIFESTS})
# What docker 1.10 and later writes for versions before it, and nobody needs.
_OLD_NAMES: Final = frozenset({"json", "VERSION", "repositories"})
_UNKNOWN: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of an archive that is in the content store now."""

    digest: Digest
    size: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds, by effective name.

    Attributes:
        documents: small JSON files.
        blobs: files that went into the content store.
        links: symbolic and hard links: the name that each stands for.
    """

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, Stored] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        """Follow the archive's links from a name to a name.

        Raises:
            RefusedInput: a link leaves the archive, or links lead in circles.
        """
        current = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            if current not in self.links:
                return current
            current = self.links[current]
        raise RefusedInput(f"{name!r} is a link that leads in circles")


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens to blobs, from a worker thread.

    Attributes:
        started: a blob begins to be copied.
        copied: so many bytes of it are in the store.
        done: it is stored; True if it was before.
    """

    started: Callable[[Descriptor], None]
    copied: Callable[[Descriptor, int], None]
    done: Callable[[Descriptor, bool], None]


class ContentsReader:
    """Reads an archive's entries once.

    Args:
        reader: the entries.
        intake: where blobs go.
        listener: told of them.
    """

    def __init__(self, reader: TarReader, intake: Intake, listener: Listener) -> None:
        self._reader: Final = reader
        self._intake: Final = intake
        self._listener: Final = listener
        self._contents: Final = Contents()
        self._seen: Final[dict[str, EntryType]] = {}
        self._documents_bytes = 0

    def read(self) -> Contents:
        """Read the whole archive; blocks.

        Raises:
            RefusedInput: malformed, ambiguous or past a budget.
            DigestMismatch: a blob is not what its name says.
            ResourceExhausted, DataLoss: the content store's.
        """
        for entry in self._reader:
            name = "/".join(os.fsdecode(part) for part in entry.path)
            self._check_new(name, entry.type)
            if entry.type is EntryType.FILE:
                self._file(name, entry)
            elif entry.type is EntryType.SYMLINK:
                self._contents.links[name] = _inside(name, os.fsdecode(entry.link))
            elif entry.type is EntryType.HARDLINK:
                target = "/".join(os.fsdecode(part) for part in entry.link_path)
                if self._seen.get(target) is not EntryType.FILE:
                    raise RefusedInput(f"{name!r} is a hard link to {target!r}, which is no file")
                self._contents.links[name] = target
            elif entry.type is not EntryType.DIRECTORY:
                raise RefusedInput(f"{name!r} is a {entry.type.value}, not a file")
        return self._contents

    def _check_new(self, name: str, kind: EntryType) -> None:
        """Refuse a second entry of a name: readers differ on which one counts."""
        before = self._seen.get(name)
        if before is not None and not before is kind is EntryType.DIRECTORY:
            raise RefusedInput(f"two entries are called {name!r}")
        self._seen[name] = kind

    def _file(self, name: str, entry: Entry) -> None:
        digest = _digest_in(name)
        if digest is not None:
            self._contents.blobs[name] = self._take(digest, entry.size)
        elif name in _NAMED_DOCUMENTS:
            self._contents.documents[name] = self._document(name, entry.size, self._pieces())
        elif posixpath.basename(name) not in _OLD_NAMES:
            self._by_content(name, entry.size)

    def _by_content(self, name: str, size: int) -> None:
        head, pieces = _peek(self._pieces())
        if head[:1] == b"{" and size <= MAX_DOCUMENT_BYTES:
            self._contents.documents[name] = self._document(name, size, pieces)
            return
        compression = detect(head)
        digest, size = self._intake.take_unknown(pieces)
        self._contents.blobs[name] = Stored(digest, size, compression)
        self._listener.done(Descriptor(_kind(head), digest, size), False)

    def _take(self, digest: Digest, size: int) -> Stored:
        head, pieces = _peek(self._pieces())
        blob = Descriptor(_kind(head), digest, size)

        def beginning() -> Iterator[memoryview]:
            self._listener.started(blob)
            yield from pieces

        copied = self._intake.take(
            blob, beginning(), lambda offset: self._listener.copied(blob, offset)
        )
        self._listener.done(blob, not copied)
        return Stored(digest, size, detect(head))

    def _document(self, name: str, size: int, pieces: Iterator[memoryview]) -> bytes:
        self._documents_bytes += size
        if size > MAX_DOCUMENT_BYTES or self._documents_bytes > MAX_DOCUMENTS_BYTES:
            raise RefusedInput(
                f"document {name!r} has {size} bytes; at most {MAX_DOCUMENT_BYTES} are read,"
                f" {MAX_DOCUMENTS_BYTES} of all together"
            )
        return b"".join(pieces)

    def _pieces(self) -> Iterator[memoryview]:
        return self._reader.payload()


def _digest_in(name: str) -> Digest | None:
    """Return the digest that a blob's name in a layout is, None for any other name."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except InvalidArgument:
        return None


def _inside(name: str, target: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if posixpath.isabs(path) or path == ".." or path.startswith("../"):
        raise RefusedInput(f"{name!r} is a link to {target[:200]!r}, outside of the archive")
    return path


def _peek(pieces: Iterator[memoryview]) -> tuple[bytes, Iterator[memoryview]]:
    """Return the first bytes, 512 if there are as many, and all pieces."""
    first = bytearray()
    while len(first) < _HEAD and (piece := next(pieces, None)) is not None:
        first += piece

    def everything() -> Iterator[memoryview]:
        if first:
            yield memoryview(first)
        yield from pieces

    return bytes(first[:_HEAD]), everything()


def _kind(head: bytes) -> str:
    """Guess a media type, for progress only; what counts is in the manifests."""
    compression = detect(head)
    if compression is not Compression.NONE:
        return f"{OCI_LAYER}+{compression.value}"
    return OCI_LAYER if head[_TAR_MAGIC] == b"ustar" else _UNKNOWN
