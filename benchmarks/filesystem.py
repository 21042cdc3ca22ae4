"""A fresh filesystem for every round: ext4 remembers deleted inodes and gets slow (see docs)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Final

from benchmarks.image import Image, LayerFacts
from benchmarks.programs import Failed, run, undisturbed
from snapcore.linux import MountFlag, Namespace, mount, unshare
from snapcore.mount import mounts_below

GIB: Final = 1 << 30
_BLOCK: Final = 4096
_SECTOR: Final = 512
_SECTORS_WRITTEN: Final = 6
_UNMOUNT_SECONDS: Final = 10
_USUAL_FACTOR: Final = 4


def leave_mounts() -> None:
    """Go to a mount namespace of our own, for this process and all that it starts.

    Otherwise any process that makes a namespace of its own meanwhile takes our filesystems along
    and keeps them, and who kills us leaves them mounted.
    """
    unshare(Namespace.MOUNT)
    mount("none", "/", "", MountFlag.REC | MountFlag.PRIVATE)


@contextmanager
def fresh_ext4(work: Path, gigabytes: int) -> Iterator[Path]:
    """Mount a new, empty ext4 from a sparse file for the duration of a `with` block.

    Args:
        work: directory for the file and the mount point; must lie on a real disk.
        gigabytes: size of the filesystem.

    Yields:
        The mount point.
    """
    image, target = work / "fresh.ext4", work / "fresh"
    image.unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(gigabytes * GIB)
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    try:
        run("mkfs.ext4", "-q", "-F", "-E", lazy, str(image))
        # The loop device goes by itself once nothing uses it, however we end.
        run("mount", "-o", "loop,noatime", str(image), str(target))
        yield target
    finally:
        with undisturbed():
            for entry in mounts_below(str(target)):
                _unmount(entry.target)
            image.unlink()


def _unmount(target: str) -> None:
    """Unmount what processes that were just killed may still be leaving."""
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while True:
        try:
            run("umount", target)
        except Failed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def written_bytes(place: Path) -> int:
    """Return what has been written to the device of a filesystem since it was attached."""
    device = os.stat(place).st_dev
    fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return int(fields[_SECTORS_WRITTEN]) * _SECTOR


def needed_gib(image: Image, *, layers_share: bool) -> int:
    """Return how large a filesystem must be to unpack an image on it, in GiB.

    Args:
        image: which; for layers whose size is not known four times the blob is assumed.
        layers_share: each layer costs what is in it, not all that is below it once more.
    """
    sizes = [_unpacked(layer) for layer in image.layers]
    unpacked = sum(sizes) if layers_share else sum(sizes) + sum(accumulate(sizes))
    blobs = sum(layer.compressed for layer in image.layers)
    # The blobs twice, for those who copy them; a tenth and a GiB for what ext4 needs.
    return int((unpacked + 2 * blobs) * 1.1) // GIB + 2


def _unpacked(layer: LayerFacts) -> int:
    return (layer.size or layer.compressed * _USUAL_FACTOR) + layer.entries * _BLOCK
