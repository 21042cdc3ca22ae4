"""One unpacking, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.filesystem import fresh_ext4, needed_gib, written_bytes
from benchmarks.image import Image
from benchmarks.programs import Failed, run, stop, undisturbed
from benchmarks.sides import Session, Side
from benchmarks.tree import Tree, tree
from benchmarks.watch import peak_memory


@dataclass(frozen=True, slots=True)
class Run:
    """One side in one round.

    Attributes:
        name: the side.
        seconds: wall time of the unpacking.
        cpu_seconds: user and system time of all its processes.
        pss_mib: peak of the sum of PSS of all its processes.
        written_mib: to the device, from the start of the clock until all is on it.
        sync_seconds: how long it took after the clock until all was on the device.
        tree: what it unpacked; read in the first round only.
    """

    name: str
    seconds: float
    cpu_seconds: float
    pss_mib: float
    written_mib: float
    sync_seconds: float
    tree: Tree | None


@dataclass(frozen=True, slots=True)
class _Timed:
    seconds: float
    cpu_seconds: float
    pss_kib: int


def measure(side: Side, image: Image, work: Path, *, look: bool) -> Run:
    """Unpack once on a fresh filesystem.

    Args:
        side: who.
        image: what.
        work: directory for the filesystem.
        look: read the unpacked tree afterwards.

    Raises:
        Failed: a program failed.
    """
    size = needed_gib(image, layers_share=side.layers_share)
    with fresh_ext4(work, size) as place, side.session(place, image) as session:
        run("sync", "--file-system", str(place))
        before = written_bytes(place)
        timed = _timed(session)
        start = time.monotonic()
        run("sync", "--file-system", str(place))
        synced = time.monotonic() - start
        written = (written_bytes(place) - before) / (1 << 20)
        seen = _look(session, place) if look else None
    memory = timed.pss_kib / 1024
    return Run(side.name, timed.seconds, timed.cpu_seconds, memory, written, synced, seen)


def _timed(session: Session) -> _Timed:
    before = session.watch.cpu_seconds()
    daemons = set(session.watch.roots)
    with peak_memory(session.watch) as peak:
        start = time.monotonic()
        process = subprocess.Popen(
            session.command(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            session.watch.roots.add(process.pid)
            assert process.stderr is not None
            with process.stderr:
                said = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            with undisturbed():
                stop(process, signal.SIGTERM)
            raise
    session.watch.roots &= daemons
    if process.returncode != 0:
        raise Failed(f"{' '.join(session.command())} failed: {said.decode()[-2000:]}")
    cpu = session.watch.cpu_seconds() - before + used.ru_utime + used.ru_stime
    return _Timed(seconds, cpu, peak.kib)


def _look(session: Session, place: Path) -> Tree:
    target = place / "mounted"
    target.mkdir()
    with session.unpacked(target) as top:
        return tree(str(top))
