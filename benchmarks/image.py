"""A large real image made of this machine's own `/usr`."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.layout import Layer, LayoutBuilder

TAG: Final = "latest"
LAYERS: Final = 5
MAX_BYTES: Final = 2_000_000_000
MIN_BYTES: Final = 400_000_000
MIN_ENTRIES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """One file of the machine: path below `/` and bytes of content."""

    path: str
    size: int


def image_layout(directory: Path) -> Path:
    """Return an OCI layout with the image tagged `latest`, building it if it is not there.

    Raises:
        SystemExit: this machine's `/usr` is smaller than the image must be.
    """
    if not (directory / "done").exists():
        builder = LayoutBuilder(directory)
        files = choose(list(walk("/usr")))
        layers = [_layer(builder, part) for part in split(files, LAYERS)]
        layers.append(_deletions(builder, files))
        builder.add_image(TAG, layers)
        (directory / "done").touch()
    return directory


def walk(top: str) -> Iterator[Found]:
    """Yield what lies below `top` on the same filesystem, sorted; sockets left out."""
    device = os.lstat(top).st_dev
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted([*names, *files]):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if status.st_dev == device and not stat.S_ISSOCK(status.st_mode):
                regular = stat.S_ISREG(status.st_mode)
                yield Found(path.lstrip("/"), status.st_size if regular else 0)


def choose(files: Sequence[Found]) -> list[Found]:
    """Leave out the largest files until the rest fits: many files, like a real image.

    Raises:
        SystemExit: too little is left.
    """
    total, kept = 0, set()
    for found in sorted(files, key=lambda f: (f.size, f.path)):
        total += found.size
        if total > MAX_BYTES:
            break
        kept.add(found.path)
    chosen = [found for found in files if found.path in kept]
    if len(chosen) < MIN_ENTRIES or sum(f.size for f in chosen) < MIN_BYTES:
        raise SystemExit("/usr is too small here for a fair image; give one with --layout DIR")
    return chosen


def split(files: Sequence[Found], parts: int) -> list[list[Found]]:
    """Cut a list into consecutive parts of about as many bytes each."""
    share = sum(found.size for found in files) / parts
    result: list[list[Found]] = [[] for _ in range(parts)]
    seen = 0
    for found in files:
        result[min(int(seen / share), parts - 1)].append(found)
        seen += found.size
    return result


def _layer(builder: LayoutBuilder, files: Sequence[Found]) -> Layer:
    with tempfile.TemporaryFile(dir=builder.directory) as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
            written: set[str] = set()
            for found in files:
                _add_parents(archive, found.path, written)
                _add(archive, found.path, written)
        plain.seek(0)
        return builder.add_layer_stream(plain, "gzip")


def _deletions(builder: LayoutBuilder, files: Sequence[Found]) -> Layer:
    """Delete every thousandth file again, so that whiteouts are part of the measure.

    The directories above are entries too, as builders write them: for implied ones containerd
    makes up a time, and then no two trees are equal.
    """
    with tempfile.TemporaryFile(dir=builder.directory) as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
            written: set[str] = set()
            for found in [found for found in files if found.size][::1000]:
                _add_parents(archive, found.path, written)
                directory, name = os.path.split(found.path)
                archive.addfile(tarfile.TarInfo(f"{directory}/.wh.{name}"))
        plain.seek(0)
        return builder.add_layer_stream(plain, "gzip")


def _add_parents(archive: tarfile.TarFile, path: str, written: set[str]) -> None:
    parent = os.path.dirname(path)
    if parent and parent not in written:
        _add_parents(archive, parent, written)
        _add(archive, parent, written)


def _add(archive: tarfile.TarFile, path: str, written: set[str]) -> None:
    if path not in written:
        written.add(path)
        archive.add(f"/{path}", arcname=path, recursive=False)
