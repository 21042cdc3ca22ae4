"""What a group of processes uses while something runs: memory (PSS) and CPU time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

_PERIOD: Final = 0.1
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Peak:
    """The largest sum of PSS seen.

    Attributes:
        kib: KiB, of all processes together at one moment.
        samples: how often it was looked at.
    """

    kib: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    ticks: int
    waited_ticks: int


@dataclass(slots=True)
class Watch:
    """A tree of processes under one or more roots."""

    roots: set[int] = field(default_factory=set)

    def pss_kib(self) -> int:
        """Return the sum of PSS of all processes of the tree, in KiB."""
        return sum(_pss_kib(process.pid) for process in self._tree())

    def cpu_seconds(self) -> float:
        """Return user and system time of the tree, of children it has waited for too."""
        return sum(p.ticks + p.waited_ticks for p in self._tree()) / _TICKS

    def _tree(self) -> list[_Process]:
        children: dict[int, list[_Process]] = {}
        found: list[_Process] = []
        for process in _processes():
            children.setdefault(process.parent, []).append(process)
            if process.pid in self.roots:
                found.append(process)
        for process in found:
            found.extend(c for c in children.get(process.pid, []) if c not in found)
        return found


@contextmanager
def peak_memory(watch: Watch) -> Iterator[Peak]:
    """Sample the memory of a tree of processes ten times a second during a `with` block."""
    peak, stop = Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(_PERIOD):
            peak.kib = max(peak.kib, watch.pss_kib())
            peak.samples += 1

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _processes() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command in parentheses may hold spaces and parentheses itself.
                    fields = file.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            own, waited = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            yield _Process(int(name), int(fields[1]), own, waited)


def _pss_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    return 0
