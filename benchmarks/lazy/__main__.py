"""Time from the start of a pull to the end of a program that imports numpy, behind a slow link.

Contestants take turns, each round in a fresh directory and with an empty page cache. What went
over the wire and how often the registry was asked holds on any machine; seconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.build import RECIPES, cache_directory, recipe_image
from benchmarks.filesystem import fresh_ext4
from benchmarks.lazy.estargz import estargz_layout
from benchmarks.lazy.link import slow_link
from benchmarks.lazy.registry import Registry, push, push_index, registry
from benchmarks.lazy.sides import PROGRAMS, SIDES, Side
from benchmarks.programs import end_on_signals, run, say


@dataclass(frozen=True, slots=True)
class Start:
    """One side in one round.

    Attributes:
        side: its name.
        seconds: from the start of the pull to the end of the program.
        pull_seconds: of these, the pull.
        wire_bytes: IP packets that came.
        requests: that the registry answered.
        again_seconds: the program a second time.
        facts: what the side tells itself.
    """

    side: str
    seconds: float
    pull_seconds: float
    wire_bytes: int
    requests: int
    again_seconds: float
    facts: dict[str, object] = field(default_factory=dict)


def measure(side: Side, server: Registry, work: Path, disk: int, program: Sequence[str]) -> Start:
    """Pull and start once."""
    reference = f"{server.host}/bench:{side.tag}"
    with fresh_ext4(work, disk) as place, side.opened(place) as starter:
        run("sync")
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        bytes_before, requests_before = server.link.received(), server.requests()
        begin = time.monotonic()
        starter.pull(reference)
        pulled = time.monotonic()
        said = starter.start(reference, program)
        end = time.monotonic()
        wire, requests = server.link.received() - bytes_before, server.requests() - requests_before
        starter.start(reference, program)
        again = time.monotonic() - end
        if not said.strip()[:1].isdigit():
            raise SystemExit(f"{side.name}: the program says {said!r}")
        facts = starter.facts(reference)
    return Start(side.name, end - begin, pulled - begin, wire, requests, again, facts)


def table(starts: Sequence[Start], image_bytes: int) -> str:
    """Return the medians as a markdown table; the first side is what the others are compared to."""
    lines = [
        "| side | rounds, s | median | ratio | pull s | again s | wire MB | of image | requests |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    base = 0.0
    for name in dict.fromkeys(start.side for start in starts):
        mine = [start for start in starts if start.side == name]
        median = statistics.median(start.seconds for start in mine)
        base = base or median
        pull = statistics.median(start.pull_seconds for start in mine)
        again = statistics.median(start.again_seconds for start in mine)
        wire = statistics.median(start.wire_bytes for start in mine)
        requests = statistics.median(start.requests for start in mine)
        rounds = ", ".join(f"{start.seconds:.1f}" for start in mine)
        lines.append(
            f"| {name} | {rounds} | {median:.1f} | {median / base:.3f} | {pull:.1f} | {again:.2f} |"
            f" {wire / 1e6:.1f} | {wire / image_bytes:.1%} | {requests:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table; JSON too if asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lazy", description=__doc__)
    names = [side.name for side in SIDES]
    parser.add_argument("--image", choices=tuple(RECIPES), default="full")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=names, default=[])
    parser.add_argument("--megabits", type=float, default=100)
    parser.add_argument("--milliseconds", type=float, default=20)
    parser.add_argument("--disk", type=int, default=8, help="GiB of each fresh filesystem")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    end_on_signals()
    cache = cache_directory()
    image = recipe_image(RECIPES[options.image], cache)
    stargz = estargz_layout(image)
    work = cache / "lazy"
    work.mkdir(exist_ok=True)
    starts: list[Start] = []
    chosen = [side for side in SIDES if not options.only or side.name in options.only]
    with (
        slow_link(work, options.megabits, options.milliseconds) as link,
        registry(link, work) as server,
    ):
        push(link, Path(image.layout), "gzip")
        push(link, stargz, "estargz")
        if any(side.name == "lazy gzip" for side in chosen):
            say("making and publishing the index of the plain layers")
            push_index(link, "gzip", work)
        for _ in range(options.rounds):
            for side in chosen:
                starts.append(measure(side, server, work, options.disk, PROGRAMS[image.name]))
                last = starts[-1]
                say(
                    f"{last.side}: {last.seconds:.1f} s, {last.wire_bytes / 1e6:.1f} MB,"
                    f" {last.requests} requests"
                )
    total = sum(layer.compressed for layer in image.layers)
    print(f"{image.summary}; {options.megabits:g} Mbit/s, {options.milliseconds:g} ms\n")
    print(table(starts, total))
    if options.json:
        options.json.write_text(json.dumps([asdict(start) for start in starts], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
