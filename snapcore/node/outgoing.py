"""What of an image leaves the node, and writing it to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

from snapcore.content import ContentStore
from snapcore.errors import InvalidArgument, NotFound
from snapcore.metadata import Image
from snapcore.node.blobs import blobs_of
from snapcore.oci import Platform, is_foreign_layer
from snapcore.registry import (
    ArchiveKind,
    Export,
    Listener,
    Outgoing,
    Sink,
    new_directory,
    new_tar,
    open_tar,
    run_blocking,
)
from snapcore.unpack import (
    Events,
    SendDone,
    SendProgress,
    SendStarted,
    best_document,
)

_SHOWN = 5


def outgoing(store: ContentStore, image: Image, platform: Platform | None) -> Outgoing:
    """Return an image and all blobs it needs; blocks.

    Args:
        store: has them.
        image: what leaves.
        platform: only the manifest for this platform; None for all of the image.

    Raises:
        NotFound: blobs are missing, which are named; or nothing fits the platform.
    """
    root = image.target if platform is None else best_document(store, image.target, platform)
    blobs = blobs_of(store, root)
    present = tuple(blob for blob in blobs if store.exists(blob.digest))
    missing = [
        blob for blob in blobs if blob not in present and not is_foreign_layer(blob.media_type)
    ]
    if missing:
        names = ", ".join(str(blob.digest) for blob in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise NotFound(
            f"image {image.name!r} is not here whole: {len(missing)} of its blobs are missing"
            f" ({names}{more}); no registry is recorded that"
            " has them; pull or import it again, or choose a platform that is here"
        )
    return Outgoing(image.name, root, present)


async def export_images(
    store: ContentStore,
    images: Sequence[Image],
    target: str | int,
    kind: ArchiveKind,
    platform: Platform | None,
    force: bool,
    events: Events,
) -> tuple[Outgoing, ...]:
    """Write images to a directory, a file or an open descriptor; see `Node.export`."""
    unique = {image.name: image for image in images}
    chosen = [
        await run_blocking(partial(outgoing, store, image, platform)) for image in unique.values()
    ]
    listener = Listener(
        lambda blob: events(SendStarted(blob)),
        lambda blob, offset: events(SendProgress(blob, offset)),
        lambda blob, _: events(SendDone(blob, "written")),
    )
    export = Export(store, tuple(chosen), kind, listener)

    def write() -> None:
        with _sink(target, kind, force) as sink:
            export.write(sink)

    await run_blocking(write)
    return tuple(chosen)


def _sink(target: str | int, kind: ArchiveKind, force: bool) -> AbstractContextManager[Sink]:
    if isinstance(target, int):
        if kind is ArchiveKind.DIRECTORY:
            raise InvalidArgument("a layout directory cannot be written to a pipe")
        return open_tar(target)
    if kind is ArchiveKind.DIRECTORY:
        return new_directory(target)
    return new_tar(target.rstrip(os.sep), force=force)
