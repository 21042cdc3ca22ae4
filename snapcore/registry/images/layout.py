"""Reading an OCI image layout directory as a source of images (image-spec, image-layout.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from snapcore.content import ContentStore
from snapcore.errors import NotFound, RefusedInput, from_os_error
from snapcore.oci import Descriptor
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.registry.images.documents import (
    INDEX,
    MARKER,
    NamedImage,
    check_marker,
    layout_images,
)
from snapcore.registry.images.intake import Intake
from snapcore.registry.interrupt import run_blocking

_CHUNK: Final = 1 << 20


class LayoutSource:
    """An OCI layout directory. Nothing in it is trusted; every blob is verified as it is copied."""

    def __init__(self, directory: str) -> None:
        """Open a layout.

        Raises:
            NotFound: there is no layout in the directory.
            RefusedInput: its version is not what the specification allows.
        """
        self.directory: Final = directory
        check_marker(_read(directory, MARKER), directory)

    def images(self) -> tuple[NamedImage, ...]:
        """Return what the layout's index names, in its order.

        Raises:
            RefusedInput: the index is malformed.
        """
        return layout_images(_read(self.directory, INDEX), self.directory)

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
        return await run_blocking(partial(self._copy, descriptor, store, progress))

    def _copy(
        self, descriptor: Descriptor, store: ContentStore, progress: Callable[[int], None]
    ) -> bool:
        digest = descriptor.digest
        path = os.path.join(self.directory, "blobs", digest.algorithm, digest.hex)
        source = _open(path, f"blob {digest} of layout {self.directory!r}")
        try:
            return Intake(store).take(descriptor, _pieces(source, path), progress)
        finally:
            os.close(source)


def _pieces(descriptor: int, path: str) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, _CHUNK)
        except OSError as error:
            raise from_os_error(error, repr(path)) from error
        if not piece:
            return
        yield piece


def _open(path: str, what: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"{what}: {error.strerror} ({path!r})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RefusedInput(f"{what} is not a regular file ({path!r})")
    return descriptor


def _read(directory: str, name: str) -> bytes:
    path = os.path.join(directory, name)
    descriptor = _open(path, f"no OCI layout in {directory!r}")
    with open(descriptor, "rb") as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise RefusedInput(f"{path!r} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return data
