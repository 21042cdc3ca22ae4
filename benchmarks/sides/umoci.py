"""umoci: all layers into one tree, from an OCI layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.image import TAG, Image
from benchmarks.programs import run
from benchmarks.sides.side import Session, Side
from benchmarks.watch import Watch

PROGRAMS: Final = ("umoci",)
"""What must be installed."""


def unpack(layout: str, bundle: Path) -> tuple[str, ...]:
    """Return the command that unpacks a layout's image into `rootfs` of a new directory."""
    return ("umoci", "unpack", "--image", f"{layout}:{TAG}", str(bundle))


@dataclass(slots=True)
class _Umoci:
    layout: str
    bundle: Path
    watch: Watch = field(default_factory=Watch)

    def command(self) -> tuple[str, ...]:
        return unpack(self.layout, self.bundle)

    @contextmanager
    def unpacked(self, target: Path) -> Iterator[Path]:
        del target
        yield self.bundle / "rootfs"


@contextmanager
def _session(place: Path, image: Image) -> Iterator[Session]:
    """Copy the layout beside where it is unpacked."""
    layout = place / "layout"
    shutil.copytree(image.layout, layout)
    yield _Umoci(str(layout), place / "bundle")


def version() -> str:
    """Return the version of the umoci that is installed."""
    return run("umoci", "--version").split()[-1].split("+")[0]


SIDES: Final = (
    Side(
        "umoci",
        _session,
        version,
        lambda: "pgzip (Go), in its process",
        PROGRAMS,
        note="one tree, no layers to share; hashes each file again for its mtree manifest",
    ),
)
