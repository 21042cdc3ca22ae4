"""Images of a million inodes are written within bounds of memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WRITE = """
import os, sys
from collections.abc import Iterator
from snapcore.archive import Entry, EntryType
from snapcore.archive.virtual import MergedView, describe
from snapcore.erofs import Place, write_image

COUNT = int(sys.argv[1])


class Entries:
    def __iter__(self) -> Iterator[tuple[Entry, Place | None]]:
        for i in range(COUNT):
            parent = (b"usr", b"lib", b"d%05d" % (i // 2000), b"e%06d" % (i // 40))
            when = 1_700_000_000_000_000_000 + i
            if i % 40 == 0:
                kind, path, size = EntryType.DIRECTORY, parent, 0
            else:
                kind, path, size = EntryType.FILE, (*parent, b"file-%07d.py" % i), 500
            entry = Entry(path, kind, 0o755, 0, 0, when, size, b"", (), 0, 0, (), 0)
            yield entry, Place(1, 1024 * i) if size else None


described = describe(Entries(), MergedView([]))
file = os.memfd_create("image")
summary = write_image(described.root, {1: 1024 * COUNT}, file)
# What getrusage(2) says would count the process that this one was forked from.
(most,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(summary.inodes, summary.size, most.split()[1])
"""


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_memory_is_bounded_for_each_entry(count: int) -> None:
    done = subprocess.run(
        (sys.executable, "-c", _WRITE, str(count)), capture_output=True, text=True, check=True
    )
    inodes, size, kilobytes = map(int, done.stdout.split())
    assert inodes > count
    assert size < 150 * inodes
    assert kilobytes * 1024 < 100 * 2**20 + 500 * count
