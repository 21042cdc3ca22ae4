"""Who is measured: a containerd, and `snapcore serve` with and without syncs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.programs import Failed, stop, undisturbed
from benchmarks.service.calls import Caller, calling
from benchmarks.sides.containerd import running_daemon

REFERENCE: Final = "containerd native"
_START_SECONDS: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """One that is measured.

    Attributes:
        name: in the table.
        caller: calls it.
        pid: of its process.
    """

    name: str
    caller: Caller
    pid: int

    def processor_seconds(self) -> float:
        """Return the processor time of its process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def sides(place: Path) -> Iterator[tuple[Side, ...]]:
    """Run all of them below a directory for the duration of a `with` block."""
    with ExitStack() as stack:
        found: list[Side] = []
        (place / "containerd").mkdir()
        daemon = stack.enter_context(running_daemon("native", place / "containerd"))
        for name in ("native", "overlayfs"):
            metadata = {"containerd-namespace": "calls"}
            caller = stack.enter_context(calling(daemon.socket, name, metadata))
            found.append(Side(f"containerd {name}", caller, daemon.pid))
        for durability in ("flush", "none"):
            (place / durability).mkdir(mode=0o700)
            process = stack.enter_context(_served(place / durability, durability))
            socket = str(place / durability / "socket")
            for name in ("native", "overlay"):
                caller = stack.enter_context(calling(socket, name, {}))
                label = f"snapcore {name}" + (", no sync" if durability == "none" else "")
                found.append(Side(label, caller, process.pid))
        yield tuple(found)


@contextmanager
def _served(place: Path, durability: str) -> Iterator[subprocess.Popen[bytes]]:
    config = place / "config.toml"
    config.write_text(f'version = 1\ndurability = "{durability}"\n')
    command = (
        sys.executable, "-m", "snapcore.cli", "--config", str(config),
        "--root", str(place / "root"), "--snapshotter", "native", "--snapshotter", "overlay",
        "serve", "--address", str(place / "socket"),
    )  # fmt: skip
    log = place / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while "snapcore: serving" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"snapcore serve does not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        with undisturbed():
            stop(process, signal.SIGTERM)
