"""A disk whose content at any moment can be taken away and opened as by the next boot."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from support.nodes import until

_FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): a point in time of a busy file, which a plain copy is not."""


@dataclass(frozen=True, slots=True)
class Disk:
    """An ext4 file system in a file on a btrfs of its own.

    Attributes:
        directory: where it is mounted.
        image: the file.
        outer: where the btrfs is mounted.
    """

    directory: Path
    image: Path
    outer: Path

    def cut(self, number: int) -> Path:
        """Return what the disk holds at this moment, as a file."""
        path = self.outer / f"cut{number}.img"
        with open(self.image, "rb") as source, open(path, "wb") as target:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return path


@contextmanager
def disk(directory: Path, size: int) -> Iterator[Disk]:
    """Make a disk below a directory for the duration of a `with` block; `size` in bytes."""
    outer, inner = directory / "outer", directory / "disk"
    with open(directory / "outer.img", "wb") as file:
        file.truncate(size * 4)
    run("mkfs.btrfs", "-q", str(directory / "outer.img"))
    with mounted(directory / "outer.img", outer):
        image = outer / "disk.img"
        with open(image, "wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", str(image))
        with mounted(image, inner):
            yield Disk(inner, image, outer)


@contextmanager
def mounted(image: Path, directory: Path) -> Iterator[Path]:
    """Mount a file system in a file at a directory, which is made, for a `with` block."""
    directory.mkdir(exist_ok=True)
    run("mount", "-o", "loop", str(image), str(directory))
    try:
        yield directory
    finally:
        # What the kernel lets go of a moment later, such as a loop device, is no failure.
        until(partial(_unmounted, directory), f"{directory} is not busy any more")


def _unmounted(directory: Path) -> bool:
    return subprocess.run(["umount", directory], capture_output=True).returncode == 0


def check(image: Path) -> None:
    """Check that a file system, whose journal was replayed, is without any fault."""
    run("e2fsck", "-fn", str(image))


def run(*command: str) -> None:
    """Run a tool; what it says is in the failure."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
