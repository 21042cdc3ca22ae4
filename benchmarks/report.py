"""What a series of rounds comes to: a Markdown table, and all of it as JSON."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import Run
from benchmarks.tree import Tree

REFERENCE_SIDE: Final = "containerd"
_HEADS: Final = (
    "side", "version", "inflates with", "rounds, s", "median s", "ratio",
    "CPU s", "peak PSS MiB", "written MiB", "sync s", "tree",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Host:
    """Where it was measured.

    Attributes:
        kernel: name and release.
        processor: model.
        processors: how many of them we may use.
        memory_mib: of the machine.
        load: runnable processes in the last minute before the start: others' work.
    """

    kernel: str
    processor: str
    processors: int
    memory_mib: int
    load: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A side of the series.

    Attributes:
        name: of the side.
        version: as it says of itself.
        inflater: what it inflates gzip with.
        note: what it does more or less than the others.
        compared: its tree must be the others'.
    """

    name: str
    version: str
    inflater: str
    note: str
    compared: bool


@dataclass(frozen=True, slots=True)
class Series:
    """A whole benchmark.

    Attributes:
        when: its start, local time in ISO 8601.
        seconds: how long all of it took, building the image left out.
        host: where.
        image: what was unpacked.
        sides: who, in order.
        missing: who was not measured, and why.
        runs: all rounds.
    """

    when: str
    seconds: float
    host: Host
    image: str
    sides: Sequence[Measured]
    missing: dict[str, str]
    runs: Sequence[Run]

    def of(self, side: str) -> list[Run]:
        """Return the runs of a side."""
        return [run for run in self.runs if run.name == side]

    @property
    def agreed(self) -> bool:
        """Whether all sides that are compared unpacked the same tree."""
        compared = {side.name for side in self.sides if side.compared}
        return len({r.tree.digest for r in self.runs if r.tree and r.name in compared}) <= 1


def this_host() -> Host:
    """Return what is known of this machine."""
    system = os.uname()
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return Host(
        f"{system.sysname} {system.release}",
        models[0] if models else system.machine,
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        round(os.getloadavg()[0], 2),
    )


def markdown(series: Series) -> str:
    """Return the table, with what must be known to read it."""
    host = series.host
    where = f"{host.kernel}, {host.processors} x {host.processor}, {host.memory_mib} MiB"
    others = f"load {host.load} before the start"
    lines = [
        series.image,
        "",
        f"{series.when}, {where}, {others}; all of it took {series.seconds:.0f} s.",
        "",
        f"| {' | '.join(_HEADS)} |",
        f"|{' --- |' * len(_HEADS)}",
        *_rows(series),
    ]
    notes = [f"- {side.name}: {side.note}" for side in series.sides if side.note]
    absent = [f"- {name}: not measured: {why}" for name, why in series.missing.items()]
    return "\n".join([*lines, *([""] if notes or absent else []), *notes, *absent, ""])


def _rows(series: Series) -> Iterator[str]:
    measured = [side for side in series.sides if series.of(side.name)]
    if not measured:
        return
    names = [side.name for side in measured]
    reference = REFERENCE_SIDE if REFERENCE_SIDE in names else names[0]
    base = statistics.median(run.seconds for run in series.of(reference))
    for side in measured:
        runs = series.of(side.name)
        median = statistics.median(run.seconds for run in runs)
        cells = (
            side.name,
            side.version,
            side.inflater,
            " ".join(f"{run.seconds:.1f}" for run in runs),
            f"{median:.2f}",
            f"{median / base:.2f}",
            f"{statistics.median(run.cpu_seconds for run in runs):.1f}",
            f"{max(run.pss_mib for run in runs):.0f}",
            f"{statistics.median(run.written_mib for run in runs):.0f}",
            f"{statistics.median(run.sync_seconds for run in runs):.1f}",
            _seen(side, next((run.tree for run in runs if run.tree), None)),
        )
        yield f"| {' | '.join(cells)} |"


def _seen(side: Measured, tree: Tree | None) -> str:
    if tree is None:
        return ""
    digest = tree.digest[:8] if side.compared else "not compared"
    return f"{tree.entries:,} entries, {tree.size / 1e6:.0f} MB, {digest}"


def keep(series: Series, directory: Path, name: str) -> Path:
    """Write table and JSON to a directory; return the table's path.

    Args:
        series: what was measured.
        directory: made if it is not there.
        name: of the image, for the file names, which begin with the time.
    """
    directory.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(series.when).strftime("%Y-%m-%dT%H%M%S")
    table = directory / f"{moment}-{name}.md"
    table.write_text(markdown(series))
    table.with_suffix(".json").write_bytes(as_json(series))
    return table


def as_json(series: Series) -> bytes:
    """Return everything."""
    return msgspec.json.format(msgspec.json.encode(series), indent=2) + b"\n"
