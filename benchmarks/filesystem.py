"""A fresh filesystem for every round: ext4 remembers deleted inodes and gets slow (see docs)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.programs import run
from snapcore.mount import mounts_below


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
        file.truncate(gigabytes << 30)
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    try:
        run("mkfs.ext4", "-q", "-F", "-E", lazy, str(image))
        run("mount", "-o", "loop,noatime", str(image), str(target))
        yield target
    finally:
        for entry in mounts_below(str(target)):
            run("umount", entry.target)
        image.unlink(missing_ok=True)
