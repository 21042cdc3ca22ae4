"""Prepare, Mounts, Commit and Remove over the socket, beside containerd's own snapshotters.

    python -m benchmarks.service [--rounds N] [--cycles N] [--files N]

One client, the same for all, makes the four calls one after the other on a parent of a few files;
the sides take turns, on one fresh ext4 that is synced before each turn. containerd syncs its
database within each call that writes, and never the files; `snapcore serve` syncs its database as
well and, before it answers a commit, the files; "no sync" leaves the latter out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.build import cache_directory
from benchmarks.filesystem import fresh_ext4, leave_mounts
from benchmarks.programs import end_on_signals, run, say
from benchmarks.report import this_host
from benchmarks.service.calls import METHODS, Cycle
from benchmarks.service.sides import REFERENCE, Side, sides
from benchmarks.sides.containerd import version

MOST: Final = 4.0
"""Of the reference's median, as the project has set itself."""
_DISK_GIB: Final = 4
_WARM_UP: Final = 5


@dataclass(slots=True)
class Times:
    """What one side took.

    Attributes:
        cycles: seconds of each method of each cycle.
        processor: seconds of its process, in all cycles together.
    """

    cycles: list[Cycle] = field(default_factory=list)
    processor: float = 0.0

    def method(self, number: int) -> float:
        """Return the median of a method, in milliseconds."""
        return statistics.median(cycle[number] for cycle in self.cycles) * 1000

    @property
    def whole(self) -> list[float]:
        """All four calls of each cycle, in milliseconds."""
        return [sum(cycle) * 1000 for cycle in self.cycles]


def measure(side: Side, cycles: int, turn: int, times: Times) -> None:
    """Let one side have its turn."""
    run("sync")
    began = side.processor_seconds()
    for number in range(cycles):
        times.cycles.append(side.caller.cycle(f"t{turn}-{number}"))
    times.processor += side.processor_seconds() - began
    side.caller.clean_up()


def table(found: Mapping[str, Times]) -> str:
    """Return the medians of all sides as Markdown."""
    base = statistics.median(found[REFERENCE].whole)
    lines = [
        "| side | " + " | ".join(f"{method} ms" for method in METHODS)
        + " | all four ms | p90 | ratio | CPU ms a cycle |",
        "| --- |" + " --- |" * (len(METHODS) + 4),
    ]  # fmt: skip
    for name, times in found.items():
        each = " | ".join(f"{times.method(number):.2f}" for number in range(len(METHODS)))
        whole, p90 = statistics.median(times.whole), statistics.quantiles(times.whole, n=10)[8]
        processor = times.processor / len(times.cycles) * 1000
        lines.append(
            f"| {name} | {each} | {whole:.2f} | {p90:.2f} | {whole / base:.2f} | {processor:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table; 1 if a side that syncs as containerd is too slow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side")
    parser.add_argument("--cycles", type=int, default=40, help="in one turn")
    parser.add_argument("--files", type=int, default=20, help="of the parent, 1 KiB each")
    options = parser.parse_args(arguments)
    end_on_signals()
    host = this_host()
    work = cache_directory() / "service"
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, Times] = {}
    with fresh_ext4(work, _DISK_GIB) as place, sides(place) as contestants:
        for side in contestants:
            side.caller.make_base(options.files, 1024)
            for number in range(_WARM_UP):
                side.caller.cycle(f"warm-{number}")
            found[side.name] = Times()
        for turn in range(options.rounds):
            for side in contestants:
                measure(side, options.cycles, turn, found[side.name])
            say(f"round {turn + 1} of {options.rounds}")
    print(
        f"{host.processors} x {host.processor}, {host.kernel}, load {host.load};"
        f" containerd {version()}; {options.rounds} x {options.cycles} cycles,"
        f" parent of {options.files} files\n\n{table(found)}"
    )
    base = statistics.median(found[REFERENCE].whole)
    slow = [name for name, times in found.items() if statistics.median(times.whole) > MOST * base]
    if slow:
        say(f"more than {MOST:g} times {REFERENCE}: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    if os.geteuid() == 0:
        leave_mounts()
    sys.exit(main())
