"""Docker archives (`docker save`): a manifest.json that names configs, layers and tags.

The format has no manifests, so one is made: docker's schema 2, with these members in this order
and without white space, as containerd makes it. The same archive gives the same digest always
and with both programs. The config's bytes stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from snapcore.archive import Compression
from snapcore.errors import DigestMismatch, RefusedInput
from snapcore.oci import Config, Descriptor, Digest, parse_config
from snapcore.oci.descriptor import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST
from snapcore.oci.manifest import MAX_CHILDREN, MAX_DOCUMENT_BYTES, decode_strictly
from snapcore.registry.images.contents import Contents, Stored
from snapcore.registry.images.documents import DOCKER_MANIFESTS, NamedImage, claimed_name
from snapcore.registry.images.intake import Intake

_CONFIG_NAME: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?\Z")
_SUFFIX: Final = {Compression.NONE: "", Compression.GZIP: ".gzip", Compression.ZSTD: ".zstd"}


class _Item(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


@dataclass(frozen=True, slots=True)
class DockerArchive:
    """A docker archive whose files have been read.

    Attributes:
        contents: its files.
        intake: where configs and manifests go.
        where: names it in messages.
    """

    contents: Contents
    intake: Intake
    where: str

    def images(self) -> tuple[NamedImage, ...]:
        """Store a manifest for each image and return the images under all their names; blocks.

        Raises:
            RefusedInput: a document is malformed, or a file that one names is missing.
            DigestMismatch: a config or layer is not what names it.
            ResourceExhausted, DataLoss: the content store's.
        """
        items = decode_strictly(
            self.contents.documents[DOCKER_MANIFESTS],
            list[_Item],
            f"manifest.json of {self.where!r}",
        )
        if len(items) > MAX_CHILDREN:
            raise self._refuse(f"{len(items)} images; at most {MAX_CHILDREN} are read")
        return tuple(image for item in items for image in self._named(item))

    def _named(self, item: _Item) -> tuple[NamedImage, ...]:
        descriptor = self._manifest(item)
        names = [claimed_name(tag, self.where) for tag in item.repo_tags or ()]
        return tuple(NamedImage(descriptor, name) for name in names) or (NamedImage(descriptor),)

    def _manifest(self, item: _Item) -> Descriptor:
        data = self._config_bytes(item.config)
        config = Descriptor(DOCKER_CONFIG, Digest.of(data), len(data))
        self._check_config_name(item.config, config.digest)
        layers = [self._layer(name) for name in item.layers or ()]
        self._check_layers(item, parse_config(data), layers)
        self.intake.take(config, [data])
        document = manifest_bytes(config, [_layer_descriptor(layer) for layer in layers])
        manifest = Descriptor(DOCKER_MANIFEST, Digest.of(document), len(document))
        self.intake.take(manifest, [document])
        return manifest

    def _config_bytes(self, name: str) -> bytes:
        path = self.contents.resolve(name)
        if path in self.contents.documents:
            return self.contents.documents[path]
        stored = self.contents.blobs.get(path)
        if stored is None:
            raise self._refuse(f"config {name[:200]!r} is not in the archive")
        blob = Descriptor(DOCKER_CONFIG, stored.digest, stored.size)
        return self.intake.store.read_blob(blob, MAX_DOCUMENT_BYTES)

    def _check_config_name(self, name: str, digest: Digest) -> None:
        said = _CONFIG_NAME.match(name.rpartition("/")[2])
        if said is not None and said[1] != digest.hex:
            raise DigestMismatch(f"{self.where!r}: config {name!r} has digest {digest}")

    def _layer(self, name: str) -> Stored:
        stored = self.contents.blobs.get(self.contents.resolve(name))
        if stored is None:
            raise self._refuse(f"layer {name[:200]!r} is not in the archive")
        return stored

    def _check_layers(self, item: _Item, config: Config, layers: Sequence[Stored]) -> None:
        if len(layers) != len(config.diff_ids):
            raise self._refuse(
                f"{len(layers)} layers for config {item.config[:200]!r},"
                f" which names {len(config.diff_ids)}"
            )
        for name, layer, diff_id in zip(item.layers or (), layers, config.diff_ids, strict=True):
            comparable = layer.digest.algorithm == diff_id.algorithm
            if layer.compression is Compression.NONE and comparable and layer.digest != diff_id:
                raise DigestMismatch(
                    f"{self.where!r}: layer {name!r} has digest {layer.digest},"
                    f" not {diff_id} as the config says"
                )

    def _refuse(self, why: str) -> RefusedInput:
        return RefusedInput(f"its manifest.json cannot be followed: {why}")


def manifest_bytes(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return the manifest of an image that came without one; see the module."""
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _record(config),
        "layers": [_record(layer) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _layer_descriptor(layer: Stored) -> Descriptor:
    return Descriptor(DOCKER_LAYER + _SUFFIX[layer.compression], layer.digest, layer.size)


def _record(descriptor: Descriptor) -> dict[str, str | int]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
