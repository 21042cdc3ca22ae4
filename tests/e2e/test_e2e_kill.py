"""Every verb, killed at numbered points on every backend: nothing half stays, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Final

import pytest
from support.killing import SCENARIOS, Count, Scenario, Sweeper
from support.layout import File, LayoutBuilder, tar_of, whiteout
from support.lazyimages import estargz_layer
from support.roots import Served, served
from support.warm import Warm

from snapcore.linux import MountFlag, UnmountFlag, mount, umount

pytestmark = pytest.mark.needs_root
BACKENDS: Final = ("native", "overlay", "fuse", "erofs")
FEW: Final = 7
# To kill the lazy backend takes a second a point, of which its daemon's start is the most.
FEW_LAZY: Final = 3
LAZY_VERBS: Final = ("pull", "commit", "images commit", "rm --sync")
MANY: Final = {"native": 1000, "overlay": 1000, "fuse": 20, "erofs": 1000}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve an image of three layers; the lazy backend makes the first one lazy."""
    builder = LayoutBuilder(tmp_path_factory.mktemp("killed") / "layout")
    layers = (
        estargz_layer(builder, File("etc/", mode=0o755), File("etc/motd", b"hello\n")),
        builder.add_layer(tar_of(File("etc/more", b"more\n"), File("bin", link="usr/bin"))),
        builder.add_layer(tar_of(whiteout("etc/motd"), File("usr/bin/tool", b"#!", mode=0o4755))),
    )
    builder.add_image("latest", layers)
    with served(builder, layers) as image:
        yield image


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A filesystem in memory: a kill loses nothing of what was written, synced or not."""
    place = tmp_path / "memory"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", MountFlag(0), "size=256m")
    try:
        yield place
    finally:
        umount(str(place), UnmountFlag.DETACH)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sweeper(place: Path, backend: str, image: Served, warm: Warm) -> Sweeper:
    return Sweeper(warm, place, backend, {"image": image.reference, "chain": image.chain_id})


def spread(count: int, points: int) -> Iterable[int]:
    """Return `count` numbers from 1 to `points`, evenly spread; all of them if there are fewer."""
    count = min(count, points)
    return [(2 * n + 1) * points // (2 * count) + 1 for n in range(count)]


def row(scenario: str, backend: str, count: Count) -> str:
    """Return a line of the table."""
    found = zip(fields(count.left), astuple(count.left), strict=True)
    left = ", ".join(f"{len(things)} {each.name}" for each, things in found)
    return (
        f"kill sweep: {scenario:13} on {backend:7}: {count.points:4} points,"
        f" {count.killed:4} killed; left: {left}"
    )


@pytest.mark.timeout(240)
def test_a_kill_anywhere_leaves_nothing(
    sweeper: Sweeper, backend: str, record_property: Callable[[str, object], None]
) -> None:
    lazy = backend == "fuse"
    few = FEW_LAZY if lazy else FEW
    for scenario in SCENARIOS:
        if not lazy or scenario.name in LAZY_VERBS:
            count = sweeper.sweep(scenario, lambda points: spread(few, points))
            record_property("shown", row(scenario.name, backend, count))
            assert not count.left, count.left
            assert count.killed >= few - 1


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])
def test_a_kill_at_every_point_leaves_nothing(
    sweeper: Sweeper,
    backend: str,
    scenario: Scenario,
    record_property: Callable[[str, object], None],
) -> None:
    count = sweeper.sweep(scenario, lambda points: spread(MANY[backend], points))
    record_property("shown", row(scenario.name, backend, count))
    assert not count.left, count.left
