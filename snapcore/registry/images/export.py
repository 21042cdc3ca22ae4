"""Images out of the content store: into a layout directory, an OCI archive or a docker archive.

The docker archive is the form that docker writes since version 25 and containerd always did: an
OCI layout in a tar with a manifest.json beside it. So the original manifests travel along bit for
bit, and blobs stay as they are, compressed ones too: every reader of manifest.json inflates gzip
layers by itself (docker since 1.10, podman, skopeo); zstd layers need docker 23.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from snapcore.content import ContentStore
from snapcore.errors import FailedPrecondition, InvalidArgument
from snapcore.oci import (
    Descriptor,
    Digest,
    Manifest,
    Reference,
    is_image_config,
    is_manifest,
    parse_document,
)
from snapcore.oci.descriptor import OCI_INDEX
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.oci.reference import DEFAULT_HOST
from snapcore.registry.images.contents import Listener
from snapcore.registry.images.documents import (
    DOCKER_MANIFESTS,
    IMAGE_NAME,
    INDEX,
    LAYOUT_VERSION,
    MARKER,
    REF_NAME,
)
from snapcore.registry.images.sinks import Sink
from snapcore.registry.interrupt import checkpoint
from snapcore.registry.outgoing import Outgoing

_CHUNK: Final = 1 << 20


class ArchiveKind(StrEnum):
    """What is written."""

    DIRECTORY = "directory"
    OCI = "oci"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class Export:
    """Images that are to be written together.

    Attributes:
        store: has all their blobs.
        images: in the order in which the index names them.
        kind: what is written.
        listener: told of each blob, from a worker thread.
    """

    store: ContentStore
    images: tuple[Outgoing, ...]
    kind: ArchiveKind
    listener: Listener

    def write(self, sink: Sink) -> None:
        """Write everything, sorted by name; blocks.

        Raises:
            FailedPrecondition: a docker archive of something that is no container image.
            DigestMismatch: a blob is damaged.
            SnapcoreError: what the sink raises.
        """
        documents = {MARKER: _json({"imageLayoutVersion": LAYOUT_VERSION}), INDEX: self._index()}
        if self.kind is ArchiveKind.DOCKER:
            documents[DOCKER_MANIFESTS] = self._docker_manifests()
        blobs = {_path(blob): blob for image in self.images for blob in image.blobs}
        directories = {"blobs"} | {name.rpartition("/")[0] for name in blobs}
        for name in sorted({*documents, *blobs, *directories}):
            if name in blobs:
                sink.file(name, blobs[name].size, self._pieces(blobs[name]))
            elif name in documents:
                sink.file(name, len(documents[name]), [documents[name]])
            else:
                sink.directory(name)

    def _pieces(self, blob: Descriptor) -> Iterator[bytes]:
        self.listener.started(blob)
        with self.store.reader(blob.digest) as reader:
            while piece := reader.read(_CHUNK):
                yield piece
                self.listener.copied(blob, reader.offset)
                checkpoint()
        self.listener.done(blob, False)

    def _index(self) -> bytes:
        entries = [_index_entry(image) for image in self.images]
        return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})

    def _docker_manifests(self) -> bytes:
        items: dict[Digest, tuple[Manifest, list[str]]] = {}
        for image in self.images:
            root = image.root.digest
            if root not in items:
                items[root] = (self._manifest(image), [])
            items[root][1].extend(_docker_tags(image.name))
        return _json(
            [
                {
                    "Config": _path(manifest.config),
                    "RepoTags": tags or None,
                    "Layers": [_path(layer) for layer in manifest.layers],
                }
                for manifest, tags in items.values()
            ]
        )

    def _manifest(self, image: Outgoing) -> Manifest:
        if not is_manifest(image.root.media_type):
            raise InvalidArgument(
                f"a docker archive holds one platform of image {image.name!r}, not all of them"
            )
        data = self.store.read_blob(image.root, MAX_DOCUMENT_BYTES)
        manifest = parse_document(data, image.root.media_type)
        if not isinstance(manifest, Manifest) or not is_image_config(manifest.config.media_type):
            raise FailedPrecondition(
                f"{image.name!r} is not a container image: a docker archive cannot hold it"
            )
        return manifest


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.algorithm}/{blob.digest.hex}"


def _index_entry(image: Outgoing) -> dict[str, object]:
    annotations = {IMAGE_NAME: image.name}
    tag = Reference.parse(image.name).tag
    if tag:
        annotations[REF_NAME] = tag
    return {
        "mediaType": image.root.media_type,
        "digest": str(image.root.digest),
        "size": image.root.size,
        "annotations": annotations,
    }


def _docker_tags(name: str) -> Sequence[str]:
    """Return the name as docker shows it; none without a tag, since docker refuses digests."""
    reference = Reference.parse(name)
    if not reference.tag:
        return ()
    short = f"{reference.name}:{reference.tag}"
    return (short.removeprefix(f"{DEFAULT_HOST}/").removeprefix("library/"),)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
