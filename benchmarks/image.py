"""The image that is unpacked: an OCI layout with one image, and what is known of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

TAG: Final = "latest"
_FACTS: Final = "facts.json"
_REF_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer.

    Attributes:
        name: of the step that made it; "" in an image of somebody else's.
        digest: of the blob.
        diff_id: digest of the tar in it.
        compressed: bytes of the blob.
        size: bytes of the tar in it; 0 if not known.
        entries: of the tar; 0 if not known.
    """

    name: str
    digest: str
    diff_id: str
    compressed: int
    size: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """An OCI layout with one image tagged `latest`.

    Attributes:
        name: of the recipe, or of the layout's directory.
        layout: the directory.
        manifest: digest of the image's manifest.
        layers: the lowest first.
    """

    name: str
    layout: str
    manifest: str
    layers: tuple[LayerFacts, ...]

    def blob(self, digest: str) -> Path:
        """Return where a blob lies."""
        return Path(self.layout, "blobs", *digest.split(":"))

    @property
    def summary(self) -> str:
        """Return one line about it."""
        compressed = sum(layer.compressed for layer in self.layers)
        text = f"{self.name}: {len(self.layers)} layers, {compressed / 1e6:.0f} MB compressed"
        if all(layer.size for layer in self.layers):
            size = sum(layer.size for layer in self.layers)
            entries = sum(layer.entries for layer in self.layers)
            text += f", {size / 1e6:.0f} MB of tar, {entries:,} entries"
        return text


def save_facts(image: Image) -> None:
    """Keep what is known of an image beside its layout."""
    facts = msgspec.json.format(msgspec.json.encode(image), indent=2)
    (Path(image.layout).parent / _FACTS).write_bytes(facts)


def open_image(layout: Path) -> Image:
    """Return the image of a layout directory: ours with its facts, or anybody's tagged `latest`.

    Raises:
        SystemExit: there is none.
    """
    facts = layout.parent / _FACTS
    if facts.exists():
        return replace(msgspec.json.decode(facts.read_bytes(), type=Image), layout=str(layout))
    digest = _tagged(layout)
    manifest = _document(layout, digest)
    config = _document(layout, manifest["config"]["digest"])
    layers = (
        LayerFacts("", str(layer["digest"]), str(diff_id), int(layer["size"]))
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    )
    return Image(layout.resolve().name, str(layout), digest, tuple(layers))


def _document(layout: Path, digest: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    )
    return document


def _tagged(layout: Path) -> str:
    index = layout / "index.json"
    entries = json.loads(index.read_bytes())["manifests"] if index.exists() else ()
    for entry in entries:
        if entry.get("annotations", {}).get(_REF_NAME) == TAG:
            return str(entry["digest"])
    raise SystemExit(f"{layout} is no OCI layout with an image tagged {TAG!r}")
