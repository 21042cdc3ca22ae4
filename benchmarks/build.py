"""Building the image of a recipe, once: `python -m benchmarks.build [full|quick]`.

Each step works on an overlay of the layers so far, and its upper directory becomes a layer, as
builders do it. The layers are compressed by pigz at gzip's usual level, since that is how most
layers in registries are, and it decides how fast they inflate.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.layout import Layer, LayoutBuilder

from benchmarks.image import TAG, Image, LayerFacts, open_image, save_facts
from benchmarks.layers import write_layer
from benchmarks.programs import run, say
from benchmarks.recipe import FULL, QUICK, Recipe, Step
from snapcore.locks import held
from snapcore.mount import mounts_below
from snapcore.oci import Descriptor, Digest
from snapcore.oci.descriptor import OCI_LAYER

RECIPES: Final = {recipe.name: recipe for recipe in (FULL, QUICK)}
_OVERLAY: Final = "index=off,metacopy=off,redirect_dir=off"


def cache_directory() -> Path:
    """Return where images are kept: outside any checkout, so that all of them share it."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "snapcore-bench"


def recipe_image(recipe: Recipe, cache: Path) -> Image:
    """Return the image of a recipe, building it if nobody has; others wait meanwhile.

    Args:
        recipe: what it is made of.
        cache: directory of images; on a disk with room for three times the unpacked image.

    Raises:
        SystemExit: a program is missing or fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / recipe.key
    with held(f"{wanted}.lock", lambda: None):
        if not wanted.exists():
            partial = cache / f"{recipe.key}.partial"
            discard(partial)
            partial.mkdir()
            try:
                _build(recipe, partial)
                shutil.rmtree(partial / "trees")
                partial.rename(wanted)
            finally:
                discard(partial)
    return open_image(wanted / "layout")


def discard(directory: Path) -> None:
    """Remove a directory with whatever is mounted below it."""
    for entry in mounts_below(str(directory)):
        run("umount", entry.target)
    shutil.rmtree(directory, ignore_errors=True)


def _build(recipe: Recipe, directory: Path) -> None:
    say(f"building the image {recipe.name!r}, once; it is kept in {directory.parent}")
    builder = LayoutBuilder(directory / "layout")
    lowers: list[Path] = []
    layers: list[Layer] = []
    facts: list[LayerFacts] = []
    os.umask(0o022)
    for number, step in enumerate(recipe.steps):
        start = time.monotonic()
        upper = directory / "trees" / str(number)
        _carry_out(step, upper, lowers)
        layer, about = _pack(builder, step.name, upper, lowers)
        layers.append(layer)
        facts.append(about)
        lowers.insert(0, upper)
        say(
            f"  {step.name}: {about.entries:,} entries, {about.compressed / 1e6:.0f} MB"
            f" of {about.size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s"
        )
    manifest = builder.add_image(TAG, layers)
    layout = str(builder.directory)
    save_facts(Image(recipe.name, layout, str(manifest.digest), tuple(facts)))


def _carry_out(step: Step, upper: Path, lowers: Sequence[Path]) -> None:
    upper.mkdir(parents=True)
    if not lowers:
        step(upper)
        return
    with _stacked(upper, lowers) as merged:
        step(merged)


@contextmanager
def _stacked(upper: Path, lowers: Sequence[Path]) -> Iterator[Path]:
    work, merged = upper.with_suffix(".work"), upper.with_suffix(".merged")
    work.mkdir()
    merged.mkdir()
    below = ":".join(map(str, lowers))
    options = f"{_OVERLAY},lowerdir={below},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "overlay", "-o", options, str(merged))
    try:
        yield merged
    finally:
        run("umount", str(merged))


def _pack(
    builder: LayoutBuilder, name: str, upper: Path, lowers: Sequence[Path]
) -> tuple[Layer, LayerFacts]:
    def is_below(path: str) -> bool:
        return any((lower / path).is_dir() for lower in lowers)

    plain, packed = builder.directory / "layer.tar", builder.directory / "layer.tar.gz"
    with plain.open("wb") as out:
        entries = write_layer(upper, out, is_below)
    run("pigz", "--keep", "--no-name", "-6", str(plain))
    digest, diff_id = _digest(packed), _digest(plain)
    size, compressed = plain.stat().st_size, packed.stat().st_size
    about = LayerFacts(name, str(digest), str(diff_id), compressed, size, entries)
    packed.rename(builder.blob_path(digest))
    plain.unlink()
    descriptor = Descriptor(f"{OCI_LAYER}+gzip", digest, about.compressed)
    return Layer(descriptor, diff_id), about


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())


def main(arguments: Sequence[str] | None = None) -> int:
    """Build an image and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description=__doc__)
    parser.add_argument("recipe", nargs="?", choices=tuple(RECIPES), default=FULL.name)
    parser.add_argument("--cache", type=Path, default=cache_directory())
    options = parser.parse_args(arguments)
    image = recipe_image(RECIPES[options.recipe], options.cache)
    say(image.summary)
    print(image.layout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
