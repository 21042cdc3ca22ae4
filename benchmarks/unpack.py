"""Unpack one large image with containerd's overlayfs and with snapcore, and compare.

    python -m benchmarks.unpack [--rounds N] [--image full|quick] [--format table|json]

Both sides have the image in their content store already; the clock runs over the unpacking
alone. Every round gets a fresh ext4 with the input on it, synced before the clock starts, and
the sides take turns. Durability is the same on both: neither syncs what it unpacks.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.build import RECIPES, cache_directory, recipe_image
from benchmarks.contestants import Contestant, Session, contestants
from benchmarks.filesystem import fresh_ext4
from benchmarks.image import open_image
from benchmarks.programs import say
from benchmarks.tree import Tree, tree
from benchmarks.watch import peak_memory

WORK: Final = Path(__file__).resolve().parents[1] / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Run:
    """One side in one round.

    Attributes:
        name: the side.
        seconds: wall time of the unpacking.
        cpu_seconds: user and system time of all its processes.
        pss_mib: peak of the sum of PSS of all its processes.
        tree: what it unpacked; read in the first round only.
    """

    name: str
    seconds: float
    cpu_seconds: float
    pss_mib: float
    tree: Tree | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if the trees differ."""
    options = _parse(arguments)
    if os.geteuid() != 0:
        raise SystemExit("this benchmark mounts filesystems: run it as root")
    # Ended from outside, the rounds still unmount and stop what they started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.layout:
        image = open_image(options.layout)
    else:
        image = recipe_image(RECIPES[options.image], options.cache)
    layout, manifest = Path(image.layout), image.manifest
    say(image.summary)
    sides = [side for side in contestants() if side.name in options.only.split(",")]
    runs: list[Run] = []
    for number in range(options.rounds):
        for side in sides:
            runs.append(measure(side, layout, manifest, options.disk, look=number == 0))
            say(f"round {number + 1}: {side.name} {runs[-1].seconds:.2f} s")
    _show(runs, {side.name: side.version for side in sides}, options.format)
    digests = {run.tree.digest for run in runs if run.tree}
    return 0 if len(digests) == 1 else 1


def measure(side: Contestant, layout: Path, manifest: str, disk: int, *, look: bool) -> Run:
    """Unpack once on a fresh filesystem.

    Args:
        side: who.
        layout: OCI layout directory of the image.
        manifest: digest of its manifest.
        disk: size of the filesystem in GiB.
        look: read the unpacked tree afterwards.
    """
    with fresh_ext4(WORK, disk) as place, side.session(place, layout, manifest) as session:
        os.sync()
        seconds, cpu, kib = _timed(session)
        seen = _look(session, place) if look else None
    return Run(side.name, seconds, cpu, kib / 1024, seen)


def _timed(session: Session) -> tuple[float, float, int]:
    before = session.watch.cpu_seconds()
    daemons = set(session.watch.roots)
    with peak_memory(session.watch) as peak:
        start = time.monotonic()
        process = subprocess.Popen(
            session.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        session.watch.roots.add(process.pid)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
    session.watch.roots &= daemons
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(session.command())} failed: {said.decode()[-2000:]}")
    cpu = session.watch.cpu_seconds() - before + used.ru_utime + used.ru_stime
    return seconds, cpu, peak.kib


def _look(session: Session, place: Path) -> Tree:
    target = place / "mounted"
    target.mkdir()
    with session.mounted(target):
        return tree(str(target))


def _show(runs: Sequence[Run], versions: dict[str, str], form: str) -> None:
    if form == "json":
        print(json.dumps({"versions": versions, "runs": [asdict(run) for run in runs]}, indent=2))
        return
    print(f"{'':12}{'version':18}{'median s':>10}{'ratio':>8}{'CPU s':>8}{'PSS MiB':>9}  tree")
    base = 0.0
    for name, version in versions.items():
        mine = [run for run in runs if run.name == name]
        median = statistics.median(run.seconds for run in mine)
        base = base or median
        cpu = statistics.median(run.cpu_seconds for run in mine)
        seen = next(run.tree for run in mine if run.tree)
        print(
            f"{name:12}{version:18}{median:10.2f}{median / base:8.2f}{cpu:8.1f}"
            f"{max(run.pss_mib for run in mine):9.0f}"
            f"  {seen.entries} entries, {seen.size / 1e6:.0f} MB, {seen.digest[:16]}"
        )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unpack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each side (3)")
    parser.add_argument("--layout", type=Path, help="OCI layout directory, image tagged latest")
    parser.add_argument("--image", choices=tuple(RECIPES), default="full", help="to build (full)")
    parser.add_argument("--cache", type=Path, default=cache_directory(), help="of built images")
    parser.add_argument("--disk", type=int, default=12, help="GiB of the fresh filesystem (12)")
    parser.add_argument("--only", default="containerd,snapcore", help="sides, comma-separated")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
