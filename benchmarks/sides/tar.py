"""GNU tar: the floor, since it does only a part of the work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.image import Image
from benchmarks.programs import find, run
from benchmarks.sides.side import Session, Side
from benchmarks.watch import Watch

_EXTRACT_ALL: Final = (
    'for blob; do tar --use-compress-program="$INFLATE" --xattrs --xattrs-include="*"'
    ' --numeric-owner --same-owner -xpf "$blob" -C "$0" || exit; done'
)


@dataclass(slots=True)
class _Tar:
    tree: Path
    blobs: tuple[str, ...]
    watch: Watch = field(default_factory=Watch)

    def command(self) -> tuple[str, ...]:
        inflate = f"INFLATE={_program()}"
        return ("env", inflate, "sh", "-c", _EXTRACT_ALL, str(self.tree), *self.blobs)

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        del target
        yield self.tree


@contextmanager
def _session(place: Path, image: Image) -> Iterator[Session]:
    """Copy the blobs beside where they are extracted."""
    tree, blobs = place / "tree", []
    tree.mkdir()
    for number, layer in enumerate(image.layers):
        blob = place / f"{number}.tar.gz"
        shutil.copyfile(image.blob(layer.digest), blob)
        blobs.append(str(blob))
    yield _Tar(tree, tuple(blobs))


def _program() -> str:
    return "pigz" if find("pigz") else "gzip"


def _version() -> str:
    return run("tar", "--version").split("\n", 1)[0].split()[-1]


SIDES: Final = (
    Side(
        "tar",
        _session,
        _version,
        lambda: f"{_program()}, a process",
        ("tar", "gzip"),
        note="the floor: layers over each other in one tree, no digest checked, nothing deleted"
        " (whiteouts become files), names and links trusted; so another tree",
        compared=False,
    ),
)
