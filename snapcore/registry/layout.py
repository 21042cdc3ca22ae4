"""Reading an OCI image layout directory as a source of images (image-spec, image-layout.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from snapcore.content import ContentStore
from snapcore.errors import AlreadyExists, NotFound, RefusedInput
from snapcore.oci import Descriptor, Index, parse_document
from snapcore.oci.descriptor import OCI_INDEX
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES

REF_NAME: Final = "org.opencontainers.image.ref.name"
_CHUNK: Final = 1 << 20


class _Marker(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: str


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """One entry of a layout's `index.json`.

    Attributes:
        tag: what the layout calls it, "" for nothing. Its author's word, not the caller's.
        descriptor: the manifest or index.
    """

    tag: str
    descriptor: Descriptor


class LayoutSource:
    """An OCI layout directory. Nothing in it is trusted; every blob is verified as it is copied."""

    def __init__(self, directory: str) -> None:
        """Open a layout.

        Raises:
            NotFound: there is no layout in the directory.
            RefusedInput: its version or index is not what the specification allows.
        """
        self.directory: Final = directory
        marker = _read(os.path.join(directory, "oci-layout"), directory)
        try:
            version = msgspec.json.decode(marker, type=_Marker).image_layout_version
        except msgspec.MsgspecError as error:
            raise RefusedInput(f"{directory!r}: malformed oci-layout file: {error}") from error
        if version != "1.0.0":
            raise RefusedInput(f"{directory!r}: image layout version {version[:50]!r} is not 1.0.0")

    def images(self) -> tuple[LayoutImage, ...]:
        """Return what the layout's index names, in its order.

        Raises:
            RefusedInput: the index is malformed.
        """
        data = _read(os.path.join(self.directory, "index.json"), self.directory)
        document = parse_document(data, OCI_INDEX)
        if not isinstance(document, Index):
            raise RefusedInput(f"{self.directory!r}: index.json is not an index")
        return tuple(
            LayoutImage(child.annotations.get(REF_NAME, ""), child) for child in document.manifests
        )

    async def fetch(
        self, descriptor: Descriptor, store: ContentStore, progress: Callable[[int], None]
    ) -> bool:
        """Copy a blob into the content store, verified.

        Args:
            descriptor: the blob.
            store: where it goes.
            progress: told the bytes copied so far, from a worker thread.

        Returns:
            True if it was copied, False if the store had it.

        Raises:
            NotFound: the layout lacks the blob.
            DigestMismatch: it is not what its digest and size say.
        """
        return await trio.to_thread.run_sync(self._copy, descriptor, store, progress)

    def _copy(
        self, descriptor: Descriptor, store: ContentStore, progress: Callable[[int], None]
    ) -> bool:
        if store.exists(descriptor.digest):
            return False
        path = os.path.join(
            self.directory, "blobs", descriptor.digest.algorithm, descriptor.digest.hex
        )
        source = _open(path, f"blob {descriptor.digest} of layout {self.directory!r}")
        try:
            ingest = store.ingest(
                f"import-{descriptor.digest}", total=descriptor.size, expected=descriptor.digest
            )
            with ingest:
                ingest.truncate()
                while chunk := os.read(source, _CHUNK):
                    trio.from_thread.check_cancelled()
                    ingest.write(chunk)
                    progress(ingest.offset)
                ingest.commit(size=descriptor.size, expected=descriptor.digest, labels={})
        except AlreadyExists:
            return False
        finally:
            os.close(source)
        return True


def _open(path: str, what: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"{what}: {error.strerror} ({path!r})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RefusedInput(f"{what} is not a regular file ({path!r})")
    return descriptor


def _read(path: str, directory: str) -> bytes:
    descriptor = _open(path, f"no OCI layout in {directory!r}")
    with open(descriptor, "rb") as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise RefusedInput(f"{path!r} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return data
