"""Makes images whose documents are wrong in one way, for a registry to serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from snapcore.errors import RefusedInput, SnapcoreError
from snapcore.oci import Digest, Platform
from snapcore.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from support import tars
from support.faults import FakeRegistry

Json: TypeAlias = dict[str, object]
Edit: TypeAlias = Callable[[Json], object]
Spell: TypeAlias = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a registry serves.

    Attributes:
        document: what the tag means.
        media_type: and what the registry says of it.
        layer: the one layer that the image has.
        blobs: besides the layer.
        documents: found by digest only, with their media types.
    """

    document: bytes
    media_type: str
    layer: bytes
    blobs: tuple[bytes, ...] = ()
    documents: tuple[tuple[bytes, str], ...] = ()

    def publish(self, registry: FakeRegistry) -> None:
        """Serve everything under the tag `latest`."""
        registry.add_manifest(self.document, self.media_type)
        for blob in (self.layer, *self.blobs):
            registry.add_blob(blob)
        for document, media_type in self.documents:
            registry.add_manifest(document, media_type, str(Digest.of(document)))


@dataclass(frozen=True, slots=True)
class HostileDocument:
    """One case of the catalogue.

    Attributes:
        name: unique; the image's layer holds it.
        attacks: what it is after, in one line.
        press: makes the image.
        verdict: the class of the refusal; None if the image is what it would be without it.
        says: what the refusal says, among other things.
        by_bytes: only the layer's bytes can show the lie: they are fetched.
    """

    name: str
    attacks: str
    press: Callable[[bytes], Pressed]
    verdict: type[SnapcoreError] | None = RefusedInput
    says: str = ""
    by_bytes: bool = False

    def pressed(self) -> Pressed:
        """Return the image."""
        return self.press(tars.gzipped(tars.tar(tars.file(b"name", self.name.encode()))))


def dump(document: object) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document).encode()


def described(data: bytes, media_type: str, **more: object) -> Json:
    """Return the descriptor of a blob, with other members if told."""
    honest = {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}
    return {**honest, **more}


def with_layer(**more: object) -> Edit:
    """Return an edit of a manifest: its layer's descriptor with other members."""

    def edit(document: Json) -> object:
        layers = document["layers"]
        assert isinstance(layers, list)
        return document | {"layers": [{**layers[0], **more}]}

    return edit


def with_config(**more: object) -> Edit:
    """Return an edit of a manifest: its config's descriptor with other members."""

    def edit(document: Json) -> object:
        config = document["config"]
        assert isinstance(config, dict)
        return document | {"config": {**config, **more}}

    return edit


def with_members(**more: object) -> Edit:
    """Return an edit of any document: other members."""
    return lambda document: document | more


def replaced(old: bytes, new: bytes) -> Spell:
    """Return a change of a document's bytes, once, where it begins."""

    def spell(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return spell


def same(document: Json) -> object:
    """Leave a document as it is."""
    return document


def manifest(
    edit: Edit = same, spell: Spell = bytes, *, media_type: str = OCI_MANIFEST
) -> Callable[[bytes], Pressed]:
    """Return what makes an image with another manifest."""

    def press(layer: bytes) -> Pressed:
        config = dump(good_config(layer))
        document = spell(dump(edit(good_manifest(layer, config))))
        return Pressed(document, media_type, layer, (config,))

    return press


def config(edit: Edit = same, spell: Spell = bytes) -> Callable[[bytes], Pressed]:
    """Return what makes an image with another config."""

    def press(layer: bytes) -> Pressed:
        changed = spell(dump(edit(good_config(layer))))
        return Pressed(dump(good_manifest(layer, changed)), OCI_MANIFEST, layer, (changed,))

    return press


def index(
    edit: Edit = same,
    spell: Spell = bytes,
    *,
    media_type: str = OCI_INDEX,
    child: Mapping[str, object] | None = None,
) -> Callable[[bytes], Pressed]:
    """Return what makes an image in another index; `child` are members of its one descriptor."""

    def press(layer: bytes) -> Pressed:
        inner = manifest()(layer)
        document = spell(dump(edit(index_of(inner.document, OCI_MANIFEST, child or {}))))
        return Pressed(
            document, media_type, layer, inner.blobs, ((inner.document, inner.media_type),)
        )

    return press


def nested(depth: int) -> Callable[[bytes], Pressed]:
    """Return what makes an image below so many indexes."""

    def press(layer: bytes) -> Pressed:
        inner = manifest()(layer)
        document, media_type = inner.document, OCI_MANIFEST
        documents = []
        for _ in range(depth):
            documents.append((document, media_type))
            document, media_type = dump(index_of(document, media_type, {})), OCI_INDEX
        return Pressed(document, media_type, layer, inner.blobs, tuple(documents))

    return press


def index_of(data: bytes, media_type: str, more: Mapping[str, object]) -> Json:
    """Return an index of one document."""
    child = described(data, media_type, **more)
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}


def good_config(layer: bytes) -> Json:
    """Return an honest config."""
    host = Platform.local()
    return {
        "os": host.os,
        "architecture": host.architecture,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tars.gunzipped(layer)))]},
    }


def good_manifest(layer: bytes, config: bytes) -> Json:
    """Return an honest manifest."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config, OCI_CONFIG),
        "layers": [described(layer, OCI_LAYER + "+gzip")],
    }


def refused(
    name: str, attacks: str, pressed: Callable[[bytes], Pressed], says: str = "", *,
    kind: type[SnapcoreError] = RefusedInput, by_bytes: bool = False,
) -> HostileDocument:  # fmt: skip
    """Return a case that is refused, as RefusedInput unless told otherwise."""
    return HostileDocument(name, attacks, pressed, kind, says, by_bytes)


FOREIGN: Final = Digest.of(b"something else")
EMPTY: Final = Digest.of(b"")
