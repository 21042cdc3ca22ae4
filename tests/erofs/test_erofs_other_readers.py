"""Debian's erofs-utils, which read blocks of 4096 bytes alone, agree with what we write."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path as FilePath

import pytest
from erofs.test_erofs_image import ODD, WIDE
from support.erofs import ErofsStack
from support.layer_cases import BASE, CASES
from support.layers import Layer, Path
from support.tree_model import observe

from snapcore.archive import EntryType
from snapcore.erofs import ImageOptions

pytestmark = pytest.mark.skipif(
    shutil.which("fsck.erofs") is None, reason="erofs-utils are not installed"
)
EXTRACTED = (EntryType.FILE, EntryType.DIRECTORY, EntryType.SYMLINK)
LAYERS = [pytest.param(layer, id=name) for name, layer, _ in CASES[::6]]


def written(place: FilePath, *layers: Layer) -> tuple[ErofsStack, list[str]]:
    stack = ErofsStack(ImageOptions(block_bits=12))
    for layer in layers:
        stack.apply(layer)
    devices = stack.write(str(place), "image").split(",")
    return stack, [device.replace("device=", "--device=") for device in devices]


def known(tree: Mapping[Path, tuple[object, ...]]) -> dict[Path, tuple[object, ...]]:
    """Return what it extracts: no xattrs, setuid bits, links or fractions of seconds."""
    kept: dict[Path, tuple[object, ...]] = {}
    for path, (kind, mode, ids, _, content, *_) in tree.items():
        assert isinstance(mode, int)
        kept[path] = (kind, mode & 0o1777, ids, content)
    return kept


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "layer", [*LAYERS, pytest.param(ODD, id="odd"), pytest.param(WIDE, id="wide")]
)
def test_fsck_extracts_the_same_files(layer: Layer, tmp_path: FilePath) -> None:
    stack, devices = written(tmp_path, BASE, layer)
    out = tmp_path / "out"
    done = subprocess.run(
        ("fsck.erofs", f"--extract={out}", "--preserve", *devices, str(tmp_path / "image")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {path: values for path, values in observe(str(out)).items() if values[0] in EXTRACTED}
    expected = {p: values for p, values in stack.observe().items() if values[0] in EXTRACTED}
    assert known(found) == known(expected)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/d/one", ("Size: 1", "Links: 1", "regular file")),
        ("/h1", ("Size: 4", "Links: 3", "regular file")),
        ("/lib", ("Size: 7", "symlink")),
        ("/d", ("directory", "Links: 3")),
    ],
)
def test_dump_shows_the_same_inode(path: str, words: tuple[str, ...], tmp_path: FilePath) -> None:
    stack, devices = written(tmp_path, BASE)
    number = stack.image().lookup(tuple(path.encode().split(b"/")[1:])).number
    done = subprocess.run(
        ("dump.erofs", *devices, f"--path={path}", str(tmp_path / "image")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"NID: {number}" in done.stdout
    said = " ".join(done.stdout.split())
    assert all(word in said for word in words), said
