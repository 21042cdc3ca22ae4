"""Command lines that run while the test goes on: to be killed, stopped, or run in numbers."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from snapcore.oci import Digest
from support.cli import child_environment
from support.faults import FakeRegistry
from support.layout import REF_NAME, LayoutBuilder

PATIENCE_SECONDS: Final = 100.0
"""How long something that must happen may take on a busy machine."""
_POLL_SECONDS: Final = 0.001


def serve(registry: FakeRegistry, builder: LayoutBuilder) -> None:
    """Put what a layout holds into a registry, under the layout's tags."""
    for path in (builder.directory / "blobs/sha256").iterdir():
        registry.add_blob(path.read_bytes())
    index = json.loads((builder.directory / "index.json").read_bytes())
    for entry in index["manifests"]:
        data = builder.blob_path(Digest.parse(entry["digest"])).read_bytes()
        registry.add_manifest(data, entry["mediaType"], entry["annotations"][REF_NAME])


@contextmanager
def running(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `snapcore` on a root beside the `with` block; kill what still runs at its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "snapcore.cli", "--root", str(root), *arguments],
        env=child_environment({"HOME": str(root.parent)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds that another process brings about; fail if it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never came that {what}"
        time.sleep(_POLL_SECONDS)


def children(pid: int) -> list[int]:
    """Return the children of a process, of whichever of its threads."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            found += map(int, (thread / "children").read_text().split())
    return found


def flock_holder(path: Path) -> int:
    """Return the process that holds the flock of a file (proc_locks(5)), 0 for nobody."""
    inode = str(path.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        number, kind, _, _, pid, place, *_ = line.split()
        if kind == "FLOCK" and place.rpartition(":")[2] == inode and number.endswith(":"):
            return int(pid)
    return 0


class Watched:
    """A process of somebody else, known for certain even after it has ended."""

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self._descriptor: Final = os.pidfd_open(pid)

    def wait(self) -> bool:
        """Wait for its end; say whether it came in time."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(PATIENCE_SECONDS * 1000))

    def close(self) -> None:
        """Forget it."""
        os.close(self._descriptor)
