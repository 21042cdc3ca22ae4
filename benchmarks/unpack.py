"""Unpack one image with snapcore and with others, and compare.

    python -m benchmarks.unpack [--rounds N] [--image full|quick] [--only SIDE,…]

All sides have the image on their own filesystem already; the clock runs over the unpacking alone.
Every round gets a fresh ext4, synced before the clock starts, and the sides take turns. Nobody
syncs within the clock; how long that takes afterwards is said beside it.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmarks.build import RECIPES, cache_directory, recipe_image
from benchmarks.filesystem import GIB, leave_mounts, needed_gib
from benchmarks.image import Image, open_image
from benchmarks.measure import Run, measure
from benchmarks.programs import Failed, end_on_signals, say
from benchmarks.report import Host, Measured, Series, as_json, keep, markdown, this_host
from benchmarks.sides import SIDES, Side

REPOSITORY: Final = Path(__file__).resolve().parents[1]


class Rounds:
    """The rounds of all sides, one after the other."""

    def __init__(self, image: Image, work: Path, host: Host) -> None:
        """Unpack `image` on filesystems below `work`."""
        self._image: Final = image
        self._work: Final = work
        self._host: Final = host
        self._begin: Final = time.monotonic()
        self._when: Final = datetime.now().astimezone().isoformat(timespec="seconds")
        self._sides: list[Side] = []
        self._measured: list[Measured] = []
        self._missing: dict[str, str] = {}
        self._runs: list[Run] = []

    def enlist(self, sides: Sequence[Side]) -> None:
        """Take the sides that this host can do; the others are noted with the reason."""
        for side in sides:
            why = side.lacks() or self._lacks_space(side)
            if why:
                self._drop(side, why)
                continue
            self._sides.append(side)
            about = (side.version(), side.inflater(), side.note, side.compared)
            self._measured.append(Measured(side.name, *about))

    def carry_out(self, rounds: int, within: float) -> None:
        """Measure; a side that fails is left out from then on.

        Args:
            rounds: how many.
            within: seconds; no round begins that would end later if it took as long as the last.
        """
        for number in range(rounds):
            start = time.monotonic()
            for side in tuple(self._sides):
                try:
                    run = measure(side, self._image, self._work, look=number == 0)
                except Failed as failed:
                    self._sides.remove(side)
                    self._drop(side, f"round {number + 1}: {failed}")
                else:
                    self._runs.append(run)
                    say(f"round {number + 1}: {side.name} {run.seconds:.2f} s")
            now = time.monotonic()
            if number + 1 < rounds and now + (now - start) > self._begin + within:
                say(f"no time for another round within {within:.0f} s")
                break

    def series(self) -> Series:
        """Return what has been measured so far."""
        return Series(
            self._when,
            time.monotonic() - self._begin,
            self._host,
            self._image.summary,
            tuple(self._measured),
            self._missing,
            tuple(self._runs),
        )

    def _drop(self, side: Side, why: str) -> None:
        self._missing[side.name] = why
        say(f"{side.name} is not measured: {why}")

    def _lacks_space(self, side: Side) -> str:
        needed = needed_gib(self._image, layers_share=side.layers_share)
        free = shutil.disk_usage(self._work).free // GIB
        if needed <= free:
            return ""
        return f"it needs {needed} GiB in {self._work}, where {free} are free; see --work"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a side failed, or if the trees differ."""
    options = _parse(arguments)
    if os.geteuid() != 0:
        raise SystemExit("this benchmark mounts filesystems: run it as root")
    end_on_signals()
    image = (
        open_image(options.layout)
        if options.layout
        else recipe_image(RECIPES[options.image], options.cache)
    )
    say(image.summary)
    options.work.mkdir(parents=True, exist_ok=True)
    rounds = Rounds(image, options.work, this_host())
    rounds.enlist(options.only)
    try:
        rounds.carry_out(options.rounds, options.within)
    finally:
        series = rounds.series()
        if series.runs:
            say(f"kept in {keep(series, options.results, image.name)} and beside it as JSON")
    print(as_json(series).decode() if options.format == "json" else markdown(series))
    return 0 if series.agreed and len(series.runs) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = ",".join(side.name for side in SIDES if side.usual)
    more = ", ".join(side.name for side in SIDES if not side.usual)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unpack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each side (3)")
    parser.add_argument("--within", type=float, default=math.inf, help="seconds for all rounds")
    parser.add_argument("--layout", type=Path, help="OCI layout directory, image tagged latest")
    parser.add_argument("--image", choices=tuple(RECIPES), default="full", help="to build (full)")
    parser.add_argument("--cache", type=Path, default=cache_directory(), help="of built images")
    parser.add_argument("--only", type=_sides, default=usual, help=f"{usual}; besides: {more}")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build/bench", help="on a disk")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks/results")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser.parse_args(arguments)


def _sides(names: str) -> tuple[Side, ...]:
    known = {side.name: side for side in SIDES}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))


if __name__ == "__main__":
    if os.geteuid() == 0:
        leave_mounts()
    sys.exit(main())
