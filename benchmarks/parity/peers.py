"""The others: what is asked of them to unpack one small image after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.image import Image
from benchmarks.programs import run
from benchmarks.sides import containerd, umoci
from benchmarks.sides.side import lacking

Unpack: TypeAlias = Callable[[Image, str], AbstractContextManager[Path]]
"""Unpacks an image under a name, and gives its directory."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another implementation.

    Attributes:
        name: in the table.
        programs: that must be installed.
        version: as it says of itself.
        started: runs it below a directory, for any number of images.
    """

    name: str
    programs: Sequence[str]
    version: Callable[[], str]
    started: Callable[[Path], AbstractContextManager[Unpack]]

    def lacks(self) -> str:
        """Return which program is missing and how to get it; "" if all are there."""
        return lacking(self.programs)


@contextmanager
def _containerd(snapshotter: str, place: Path) -> Iterator[Unpack]:
    @contextmanager
    def unpack(image: Image, name: str) -> Iterator[Path]:
        daemon.import_layout(image.layout, f"parity.example/{name}")
        run(*daemon.unpack(image.manifest))
        with daemon.mounted([layer.diff_id for layer in image.layers], target) as root:
            yield root

    target = place / "mounted"
    target.mkdir()
    with containerd.running_daemon(snapshotter, place) as daemon:
        yield unpack


@contextmanager
def _umoci(place: Path) -> Iterator[Unpack]:
    @contextmanager
    def unpack(image: Image, name: str) -> Iterator[Path]:
        bundle = place / name
        try:
            run(*umoci.unpack(image.layout, bundle))
            yield bundle / "rootfs"
        finally:
            shutil.rmtree(bundle, ignore_errors=True)

    yield unpack


PEERS: Final = (
    Peer(
        "containerd overlayfs", containerd.PROGRAMS, containerd.version,
        partial(_containerd, "overlayfs"),
    ),
    Peer(
        "containerd native", containerd.PROGRAMS, containerd.version,
        partial(_containerd, "native"),
    ),
    Peer("umoci", umoci.PROGRAMS, umoci.version, _umoci),
)  # fmt: skip
