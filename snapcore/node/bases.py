"""Finding the image that a snapshot stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snapcore.content import ContentStore
from snapcore.errors import InvalidArgument, NotFound, RefusedInput
from snapcore.metadata import Image
from snapcore.node.blobs import blobs_of
from snapcore.node.images import Images, LocatedManifest
from snapcore.oci import Digest, Manifest, chain_id, is_manifest, parse_config
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.unpack import read_document


@dataclass(frozen=True, slots=True)
class Base:
    """What a snapshot stands on.

    Attributes:
        image: an image with its snapshot's parent.
        located: the image's manifest that has it.
        config: the bytes of its config.
    """

    image: Image
    located: LocatedManifest
    config: bytes


def find_base(
    images: Images, store: ContentStore, parent: str, named: str, preferred: str
) -> Base | None:
    """Find the image that a snapshot's parent is of.

    Args:
        images: of the node.
        store: has their documents.
        parent: chain ID; "" for a snapshot that stands on nothing.
        named: the only image to look at; "" for all.
        preferred: an image that goes before all others, such as the one it was mounted of.

    Returns:
        The image; None if there is no parent.

    Raises:
        NotFound: no image has it.
        InvalidArgument: several images with different configs do; or the named one does not.
    """
    if not parent and not named:
        return None
    every = [images.get(named)] if named else images.list()
    found: dict[Digest, Base] = {}
    for image in sorted(every, key=lambda image: image.name != preferred):
        for base in _manifests(store, image, parent):
            if image.name == preferred:
                return base
            found.setdefault(base.located.descriptor.digest, base)
    if not found and named:
        raise InvalidArgument(f"the snapshot does not stand on image {named!r}")
    if not found:
        raise NotFound(f"no image of this node has snapshot {parent!r}; name one with --base")
    if len(found) > 1:
        names = ", ".join(sorted(repr(base.image.name) for base in found.values()))
        raise InvalidArgument(f"several images have snapshot {parent!r}: {names}; choose by --base")
    return next(iter(found.values()))


def _manifests(store: ContentStore, image: Image, parent: str) -> Iterator[Base]:
    """Yield the manifests of an image, of whatever platform, that have a chain ID."""
    try:
        blobs = blobs_of(store, image.target)
    except (NotFound, RefusedInput):
        return
    for blob in blobs:
        if not is_manifest(blob.media_type) or not store.exists(blob.digest):
            continue
        try:
            manifest = read_document(store, blob)
            if not isinstance(manifest, Manifest):
                continue
            config = store.read_blob(manifest.config, MAX_DOCUMENT_BYTES)
            found = chain_id(parse_config(config).diff_ids)
        except (NotFound, RefusedInput):
            # An artifact, or an image of which not all is here.
            continue
        if found == parent:
            yield Base(image, LocatedManifest(blob, manifest), config)
