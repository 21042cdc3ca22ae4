"""Where the time of applying layers goes: `python -m benchmarks.profile [--image quick]`.

Applies the image's layers in this very process, one after the other, as snapcore's workers do
for overlay, each time on a fresh ext4: bare, for the times of each layer and the processor time
of the applying thread beside that of the other two; under cProfile, for the functions of the
applying thread (it more than doubles the cost of short Python functions, so read it for shares);
and, with `--calls`, under strace, for how many system calls an entry takes.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, RUSAGE_THREAD, getrusage
from typing import Final

from benchmarks.build import RECIPES, cache_directory, recipe_image
from benchmarks.filesystem import fresh_ext4
from benchmarks.image import Image, LayerFacts, open_image
from benchmarks.programs import find
from snapcore.archive import (
    ApplyPolicy,
    Expected,
    LayerResult,
    Limits,
    WhiteoutsFirst,
    unpack_layer,
)
from snapcore.oci import Digest, WhiteoutStyle
from snapcore.snapshots import LayerTarget
from snapcore.unpack.target import open_destination

_DISK_GIB: Final = 12
_LINES: Final = 30


@dataclass(frozen=True, slots=True)
class Spent:
    """What one layer took.

    Attributes:
        wall: seconds.
        applying: user and system seconds of the thread that parses and writes (see `_used`).
        others: the same of the threads that inflate and hash.
        result: what the layer turned out to be.
    """

    wall: float
    applying: complex
    others: complex
    result: LayerResult


class _Alone:
    """The steps of a worker's parent, without a parent."""

    def mark_opaque(self, directory: int) -> None:
        os.setxattr(directory, WhiteoutStyle.OVERLAY.opaque_xattr, b"y")

    def progress(self, read: int) -> None:
        """Nobody listens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the profile."""
    options = _parse(arguments)
    image = (
        open_image(options.layout)
        if options.layout
        else recipe_image(RECIPES[options.image], options.cache)
    )
    if options.inside:
        _apply_all(image, options.inside)
        return 0
    print(image.summary, end="\n\n")
    with fresh_ext4(options.cache, _DISK_GIB) as place:
        _print_times(image, _apply_all(image, place))
    with fresh_ext4(options.cache, _DISK_GIB) as place:
        profiler = cProfile.Profile()
        profiler.runcall(_apply_all, image, place)
        _print_functions(profiler, options.top)
    if options.calls:
        with fresh_ext4(options.cache, _DISK_GIB) as place:
            _print_calls(image, place)
    return 0


def _apply_all(image: Image, place: Path) -> list[Spent]:
    """Apply all layers below `place`, each as an upper directory over those before it."""
    lowers: list[str] = []
    spent: list[Spent] = []
    os.umask(0)
    for number, layer in enumerate(image.layers):
        upper = place / str(number)
        upper.mkdir()
        target = LayerTarget(str(upper), tuple(lowers), WhiteoutStyle.OVERLAY)
        spent.append(_measured(image.blob(layer.digest), layer, target))
        lowers.insert(0, str(upper))
    return spent


def _measured(blob: Path, layer: LayerFacts, target: LayerTarget) -> Spent:
    start, everyone, mine = time.monotonic(), _used(RUSAGE_SELF), _used(RUSAGE_THREAD)
    try:
        result = _applied(blob, layer, target, whiteouts_first=False)
    except WhiteoutsFirst:
        shutil.rmtree(target.directory)
        os.mkdir(target.directory)
        result = _applied(blob, layer, target, whiteouts_first=True)
    wall = time.monotonic() - start
    applying = _used(RUSAGE_THREAD) - mine
    return Spent(wall, applying, _used(RUSAGE_SELF) - everyone - applying, result)


def _applied(
    blob: Path, layer: LayerFacts, target: LayerTarget, *, whiteouts_first: bool
) -> LayerResult:
    expected = Expected(Digest.parse(layer.digest), layer.compressed, Digest.parse(layer.diff_id))
    with (
        blob.open("rb") as file,
        open_destination(target, target.directory, base=not target.lowers) as destination,
    ):
        return unpack_layer(
            file.fileno(),
            destination,
            expected,
            Limits(),
            ApplyPolicy(),
            _Alone(),
            whiteouts_first=whiteouts_first,
        )


def _used(who: int) -> complex:
    """Return user seconds as the real part and system seconds as the imaginary one."""
    usage = getrusage(who)
    return complex(usage.ru_utime, usage.ru_stime)


def _print_times(image: Image, spent: Sequence[Spent]) -> None:
    heads = ("entries", "MB", "wall s", "apply user", "sys", "other user", "sys")
    print(f"{'layer':36}" + "".join(f"{head:>11}" for head in heads))
    for name, each in zip((layer.name for layer in image.layers), spent, strict=True):
        _print_line(name, each.result.entries, each.result.size, each)
    total = Spent(
        sum(each.wall for each in spent),
        sum(each.applying for each in spent),
        sum(each.others for each in spent),
        spent[0].result,
    )
    entries = sum(each.result.entries for each in spent)
    _print_line("all", entries, sum(each.result.size for each in spent), total)
    print()


def _print_line(name: str, entries: int, size: int, spent: Spent) -> None:
    numbers = (spent.wall, *_parts(spent.applying), *_parts(spent.others))
    print(f"{name:36}{entries:11,}{size / 1e6:11.0f}" + "".join(f"{n:11.2f}" for n in numbers))


def _parts(seconds: complex) -> tuple[float, float]:
    return seconds.real, seconds.imag


def _print_functions(profiler: cProfile.Profile, lines: int) -> None:
    statistics = pstats.Stats(profiler, stream=sys.stdout)
    statistics.sort_stats("tottime").print_stats(lines)


def _print_calls(image: Image, place: Path) -> None:
    if find("strace") is None:
        raise SystemExit("strace is not installed; `make setup` as root installs it")
    inner = (sys.executable, "-m", "benchmarks.profile", "--layout", image.layout)
    counted = subprocess.run(
        ("strace", "-f", "-c", "-U", "calls,errors,name", *inner, "--inside", str(place)),
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(counted.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--image", choices=tuple(RECIPES), default="full")
    parser.add_argument("--layout", type=Path, help="OCI layout directory, image tagged latest")
    parser.add_argument("--cache", type=Path, default=cache_directory())
    parser.add_argument("--top", type=int, default=_LINES, help=f"functions shown ({_LINES})")
    parser.add_argument("--calls", action="store_true", help="count system calls by strace")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
