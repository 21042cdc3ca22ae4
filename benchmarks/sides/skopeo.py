"""skopeo: an OCI layout into a containers-storage of its own (what Podman and CRI-O use)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.image import TAG, Image
from benchmarks.programs import Failed, run
from benchmarks.sides.side import REFERENCE, Session, Side
from benchmarks.watch import Watch


class _Layer(msgspec.Struct):
    """An element of `overlay-layers/layers.json`."""

    id: str
    parent: str = ""


class _Image(msgspec.Struct):
    """An element of `overlay-images/images.json`."""

    layer: str


@dataclass(slots=True)
class _Skopeo:
    place: Path
    watch: Watch = field(default_factory=Watch)

    @property
    def root(self) -> Path:
        return self.place / "root"

    def command(self) -> tuple[str, ...]:
        store = f"[overlay@{self.root}+{self.place / 'run'}]"
        temporary = f"TMPDIR={self.place / 'tmp'}"
        copy = ("skopeo", "--insecure-policy", "copy", "--quiet")
        return (
            "env", temporary, *copy,
            f"oci:{self.place / 'layout'}:{TAG}", f"containers-storage:{store}{REFERENCE}",
        )  # fmt: skip

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        directories = ":".join(f"overlay/{layer}/diff" for layer in self._chain())
        options = f"ro,lowerdir={directories}"
        # Relative names, since all of them must fit in one page.
        run("mount", "-t", "overlay", "overlay", "-o", options, str(target), cwd=self.root)
        try:
            yield target
        finally:
            run("umount", str(target))

    def _chain(self) -> Iterator[str]:
        """Yield the IDs of the image's layers, the uppermost first."""
        images = (self.root / "overlay-images/images.json").read_bytes()
        layers = (self.root / "overlay-layers/layers.json").read_bytes()
        parents = {each.id: each.parent for each in msgspec.json.decode(layers, type=list[_Layer])}
        found = msgspec.json.decode(images, type=list[_Image])
        if len(found) != 1:
            raise Failed(f"skopeo left {len(found)} images in its store")
        layer = found[0].layer
        while layer:
            yield layer
            layer = parents[layer]


@contextmanager
def _session(place: Path, image: Image) -> Iterator[Session]:
    """Copy the layout beside the store, for which there is nothing to start."""
    shutil.copytree(image.layout, place / "layout")
    (place / "tmp").mkdir()
    yield _Skopeo(place)


def _version() -> str:
    return run("skopeo", "--version").split()[-1]


SIDES: Final = (
    Side(
        "skopeo",
        _session,
        _version,
        lambda: "pgzip (Go), in its process",
        ("skopeo",),
        note="containers-storage, driver overlay; writes each blob to a temporary file first"
        " and tar-split beside the layers",
    ),
)
