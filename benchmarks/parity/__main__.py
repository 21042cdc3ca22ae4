"""Unpack the numbered images of the parity tests with snapcore and with others (as root).

    python -m benchmarks.parity [--images N | --number K] [--only SIDE,…] [--json FILE]

Prints, for each class of images, who shows the tree that the images' layers mean. snapcore's own
sides take the way that the tests take, so `--number` repeats what a test has found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import trio
from support.parity import (
    Failure,
    ParityImage,
    backends_of,
    parity_image,
    parity_node,
    unpack_and_compare,
)

from benchmarks.filesystem import leave_mounts
from benchmarks.image import open_image
from benchmarks.parity.outcomes import Outcome, SideFacts, look, reason, refusals, table
from benchmarks.parity.peers import PEERS, Peer, Unpack
from benchmarks.programs import Failed, end_on_signals, say
from benchmarks.sides import snapcore

REPOSITORY: Final = Path(__file__).resolve().parents[2]
OURS: Final = "snapcore-"
"""What the names of snapcore's sides begin with; the snapshotter's name follows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Unpack and compare; return 1 if a side of snapcore's does not agree with the model."""
    options = _parse(arguments)
    if os.geteuid() != 0:
        raise SystemExit("the images have devices and foreign ids: run this as root")
    end_on_signals()
    images = [parity_image(number) for number in options.number or range(options.images)]
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work, prefix="parity-") as place:
        facts, outcomes = compare(images, options.only, Path(place))
    sides = [side.name for side in facts if not side.missing]
    versions = ", ".join(f"{side.name} {side.version}" for side in facts if not side.missing)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    print(f"{len(images)} images, {now}, Linux {os.uname().release}; {versions}\n")
    print(table(outcomes, sides))
    print(f"\n{refusals(outcomes, sides)}")
    if options.json:
        document = {"when": now, "sides": facts, "outcomes": outcomes}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))
    ours = [outcome for outcome in outcomes if outcome.side.startswith(OURS)]
    return 0 if all(outcome.verdict == "agrees" for outcome in ours) else 1


def compare(
    images: Sequence[ParityImage], only: Sequence[str], place: Path
) -> tuple[list[SideFacts], list[Outcome]]:
    """Unpack images on all sides, or on those named; say on stderr how far it is."""
    facts: list[SideFacts] = []
    outcomes: list[Outcome] = []
    ours = [name.removeprefix(OURS) for name in only if name.startswith(OURS)]
    if ours or not only:
        (place / "snapcore").mkdir()
        names, found = _unpack_ours(images, ours, place / "snapcore")
        facts += [SideFacts(f"{OURS}{name}", snapcore.version()) for name in names]
        outcomes += found
    for number, peer in enumerate(PEERS):
        if only and peer.name not in only:
            continue
        if why := peer.lacks():
            say(f"{peer.name} is left out: {why}")
            facts.append(SideFacts(peer.name, "", why))
            continue
        facts.append(SideFacts(peer.name, peer.version()))
        (room := place / str(number)).mkdir()
        outcomes += _unpack_theirs(peer, images, room)
    return facts, outcomes


def _unpack_ours(
    images: Sequence[ParityImage], only: Sequence[str], place: Path
) -> tuple[Sequence[str], list[Outcome]]:
    async def run() -> None:
        for image in images:
            failures = await unpack_and_compare(node, image, backends, place)
            for failure in failures:
                say(str(failure))
            outcomes.extend(_our_outcome(image, name, failures) for name in backends)

    outcomes: list[Outcome] = []
    with parity_node(place / "root") as node:
        backends = only or backends_of(node)
        trio.run(run)
    return backends, outcomes


def _our_outcome(image: ParityImage, backend: str, failures: Sequence[Failure]) -> Outcome:
    side = f"{OURS}{backend}"
    for failure in failures:
        if failure.backend == backend:
            return Outcome(image.number, image.kind, side, "differs", ("trees",), failure.what)
        if not failure.backend and backend in failure.backends:
            return Outcome(image.number, image.kind, side, "refuses", (), failure.what)
    return Outcome(image.number, image.kind, side, "agrees")


def _unpack_theirs(peer: Peer, images: Sequence[ParityImage], place: Path) -> Iterator[Outcome]:
    with peer.started(place) as unpack:
        for image in images:
            layout = place / f"layout-{image.number}"
            yield _their_outcome(peer.name, image, unpack, layout)
            shutil.rmtree(layout)
    say(f"{peer.name}: done")


def _their_outcome(side: str, image: ParityImage, unpack: Unpack, layout: Path) -> Outcome:
    image.write(layout)
    with ExitStack() as stack:
        try:
            root = stack.enter_context(unpack(open_image(layout), str(image.number)))
        except Failed as failed:
            why = reason(str(failed), str(layout.parent))
            return Outcome(image.number, image.kind, side, "refuses", (), why)
        return look(side, image, str(root))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    sides = ", ".join([*(peer.name for peer in PEERS), f"{OURS}BACKEND"])
    parser.add_argument("--images", type=int, default=50, help="the first so many (50)")
    parser.add_argument("--number", type=int, action="append", help="this one alone; repeatable")
    parser.add_argument("--only", type=_names, default=(), help=f"sides, by commas: {sides}")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build", help="on a disk")
    parser.add_argument("--json", type=Path, help="keep every outcome there")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    known = [peer.name for peer in PEERS]
    for name in names:
        if name not in known and not name.startswith(OURS):
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}, {OURS}…")
    return names


if __name__ == "__main__":
    if os.geteuid() == 0:
        leave_mounts()
    sys.exit(main())
