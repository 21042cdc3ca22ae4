"""Power cuts at random moments of pulls: what was acknowledged is whole, or honestly absent."""

from __future__ import annotations

import random
import select
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
from support.cli import child_environment
from support.faults import FakeRegistry
from support.images import require_tools
from support.layout import File, LayoutBuilder, tar_of
from support.lazyimages import estargz_layer
from support.nodes import serve
from support.power import Disk, check, disk, mounted

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import SnapcoreError
from snapcore.node import Node, PullOptions, UnpackChoice
from snapcore.oci import Platform
from snapcore.snapshots import Durability, State
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings

pytestmark = pytest.mark.needs_root

IMAGES: Final = 8
LAYERS: Final = 3
FILES: Final = 20
PULLS: Final = """
import sys, trio
from snapcore.config import NodeConfig
from snapcore.node import Node, UnpackChoice
from snapcore.snapshots import Durability
from dataclasses import replace

root, backend, durability, *layouts = sys.argv[1:]
config = replace(NodeConfig.at(root), durability=Durability(durability))
with Node.open(config) as node:
    for layout in layouts:
        choice = UnpackChoice(snapshotters=(backend,))
        done = trio.run(lambda: node.import_(layout, choice=choice))
        print(done[0].reference, flush=True)
"""


@dataclass
class Cut:
    """A moment: what the disk held, and what had been acknowledged before it."""

    image: Path
    acknowledged: tuple[str, ...]


@dataclass
class Seen:
    """What a sweep has found; only `torn` and `lost` break a promise.

    Attributes:
        cuts: images of the disk.
        acknowledged: pulls that had returned, over all cuts.
        recorded: committed snapshots that were on record, over all cuts.
        damaged: those of them whose files were not right before anybody opened the root.
        torn: those that were still offered afterwards, and not right.
        lost: acknowledged pulls that were not whole afterwards.
    """

    cuts: int = 0
    acknowledged: int = 0
    recorded: int = 0
    damaged: int = 0
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    require_tools("mkfs.btrfs", "mkfs.ext4", "e2fsck")
    top = tmp_path_factory.mktemp("layouts")
    return tuple(_layout(top / f"image{number}", number) for number in range(IMAGES))


def _layout(directory: Path, number: int) -> Path:
    builder = LayoutBuilder(directory)
    layers = []
    for layer in range(LAYERS):
        data = b"%d %d " % (number, layer) * 500
        files = [File(f"d{layer}/{name:03}", data) for name in range(FILES)]
        layers.append(builder.add_layer(tar_of(*files)))
    builder.add_image("latest", layers)
    return builder.directory


@pytest.fixture(scope="module")
def expected(
    layouts: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, str]]:
    """Return, by backend and name, the digests of all snapshots."""
    found = {}
    for backend in ("native", "overlay"):
        root = tmp_path_factory.mktemp(backend) / "root"
        with Node.open(NodeConfig.at(str(root))) as node:
            for layout in layouts:
                choice = UnpackChoice(snapshotters=(backend,))
                trio.run(_import, node, str(layout), choice)
        found[backend] = _digests(root, backend)
    return found


async def _import(node: Node, layout: str, choice: UnpackChoice) -> None:
    await node.import_(layout, choice=choice)


def _digests(root: Path, backend: str) -> dict[str, str]:
    """Return the digest of every committed snapshot on record, without opening the node."""
    state = root / "snapshotters" / backend
    if not (state / "metadata.db").exists():
        return {}
    with (
        closing(sqlite3.connect(state / "metadata.db")) as database,
        suppress(sqlite3.OperationalError),
    ):
        rows = database.execute("SELECT id, key FROM snapshots WHERE kind = 'committed'")
        return {str(key): _digest(state / f"snapshots/{number}/fs") for number, key in rows}
    return {}


def _digest(directory: Path) -> str:
    try:
        return str(tree_digest(str(directory)))
    except (OSError, SnapcoreError) as error:
        return str(error)


def _cuts(where: Disk, program: str, *arguments: str, count: int) -> Iterator[Cut]:
    """Pull images and cut the power now and then, `count` times and at random moments.

    Args:
        where: the disk.
        program: prints the name of each image once it is pulled.
        arguments: its arguments, after the root.
        count: how often.
    """
    moments = random.Random(" ".join(arguments[:2]))
    acknowledged: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", program, str(where.directory / "root"), *arguments],
        stdout=subprocess.PIPE,
        env=child_environment({"HOME": str(where.directory)}),
    ) as child:
        assert child.stdout is not None
        try:
            made = 0
            while made < count:
                # Not before there is anything to lose; then whenever.
                wait = moments.uniform(0, 0.2) if acknowledged else 60
                if select.select([child.stdout], [], [], wait)[0]:
                    line = child.stdout.readline().decode().strip()
                    if not line:
                        break
                    acknowledged.append(line)
                if acknowledged and moments.random() < 0.6:
                    yield Cut(where.cut(made), tuple(acknowledged))
                    made += 1
        finally:
            child.kill()


def _look(cut: Cut, directory: Path, backend: str, expected: Mapping[str, str], seen: Seen) -> None:
    """Open what a disk held as the next boot would, and compare."""
    with mounted(cut.image, directory):
        root = directory / "root"
        before = _digests(root, backend)
        seen.cuts += 1
        seen.acknowledged += len(cut.acknowledged)
        seen.recorded += len(before)
        seen.damaged += sum(digest != expected[name] for name, digest in before.items())
        with Node.open(NodeConfig.at(str(root))) as node:
            infos = list(node.snapshotter(backend).walk())
            offered = {info.name for info in infos if info.state is State.DURABLE}
            assert not [info for info in infos if info.state is State.PENDING]
            names = {image.name for image in node.images.list()}
            for reference in cut.acknowledged:
                whole = reference in names and _whole(node, reference, backend)
                if not whole:
                    seen.lost.append(reference)
        after = _digests(root, backend)
        seen.torn += [name for name in offered if after.get(name) != expected.get(name)]
    check(cut.image)


def _whole(node: Node, reference: str, backend: str) -> bool:
    found = node.images.check(reference, Platform.local())
    return found.complete and found.snapshots.get(backend, False)


def _sweep(
    tmp_path: Path,
    backend: str,
    durability: Durability,
    layouts: tuple[Path, ...],
    expected: Mapping[str, Mapping[str, str]],
    count: int,
) -> Seen:
    seen = Seen()
    with disk(tmp_path, 512 << 20) as where:
        arguments = (backend, durability, *map(str, layouts))
        cuts = list(_cuts(where, PULLS, *arguments, count=count))
        for cut in cuts:
            _look(cut, tmp_path / "cut", backend, expected[backend], seen)
            cut.image.unlink()
    return seen


FEW: Final = 3
MANY: Final = 50


@pytest.mark.parametrize(
    ("backend", "durability", "count"),
    [
        ("overlay", Durability.FLUSH, FEW),
        *(
            pytest.param(backend, durability, MANY, marks=pytest.mark.long)
            for backend in ("native", "overlay")
            for durability in (Durability.FLUSH, Durability.STRICT)
        ),
    ],
)
def test_what_was_acknowledged_survives_a_power_cut(
    tmp_path: Path,
    backend: str,
    durability: Durability,
    count: int,
    layouts: tuple[Path, ...],
    expected: Mapping[str, Mapping[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = Seen()
    round_ = 0
    while seen.cuts < count:
        where = tmp_path / str(round_)
        where.mkdir()
        found = _sweep(where, backend, durability, layouts, expected, count - seen.cuts)
        assert found.cuts, "the pulls ended before the power was cut"
        seen.cuts += found.cuts
        seen.acknowledged += found.acknowledged
        seen.recorded += found.recorded
        seen.damaged += found.damaged
        seen.torn += found.torn
        seen.lost += found.lost
        round_ += 1
    with capsys.disabled():
        sys.stdout.write(
            f"\npower cuts, {backend}, {durability}: {seen.cuts} images of the disk,"
            f" {seen.acknowledged} acknowledged pulls, {len(seen.lost)} lost;"
            f" {seen.recorded} snapshots on record, {seen.damaged} damaged before opening,"
            f" {len(seen.torn)} torn after\n"
        )
    assert (seen.torn, seen.lost) == ([], [])


def test_without_syncs_the_same_cuts_lose_and_damage(
    tmp_path: Path, layouts: tuple[Path, ...], expected: Mapping[str, Mapping[str, str]]
) -> None:
    seen = _sweep(tmp_path, "native", Durability.NONE, layouts, expected, FEW)
    assert seen.damaged > 0, "the oracle is blind"
    assert seen.lost
    assert seen.torn == []


LAZY_OPTIONS: Final = {"fuse": {"min_layer_size": 1, "complete": False}}
LAZY_PULLS: Final = """
import sys, trio
from snapcore.config import NodeConfig
from snapcore.node import Node, PullOptions

root, *names = sys.argv[1:]
options = {"fuse": {"min_layer_size": 1, "complete": False}}
config = NodeConfig(root=root, state=f"{root}/state", snapshotters=("fuse",), plugins=options)
with Node.open(config) as node:
    for name in names:
        trio.run(lambda: node.pull(name, PullOptions(plain_http=True)))
        print(name, flush=True)
"""


@contextmanager
def _lazy_node(root: Path) -> Iterator[Node]:
    """Open a node with lazy layers, and end their daemon afterwards."""
    config = NodeConfig(
        root=str(root), state=f"{root}/state", snapshotters=("fuse",), plugins=LAZY_OPTIONS
    )
    try:
        with Node.open(config) as node:
            yield node
    finally:
        _end_daemon(root)


def _end_daemon(root: Path) -> None:
    Daemon(Places(str(root / "snapshotters/fuse")), Settings()).stop()


def _trees(node: Node) -> dict[str, str]:
    """Return the digest of every image that is whole, as it is seen when it is mounted."""
    found = {}
    for image in node.images.list():
        if node.images.check(image.name, Platform.local()).snapshots.get("fuse"):
            with node.mounted(image.name) as directory:
                found[image.name] = str(tree_digest(directory))
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
def test_lazy_layers_survive_a_power_cut(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    for number in range(IMAGES):
        files = [File(f"d{number}/{n:03}", b"%d %d " % (number, n) * 50) for n in range(FILES)]
        plain = builder.add_layer(tar_of(File(f"plain/{number}", b"unpacked")))
        builder.add_image(f"t{number}", [estargz_layer(builder, *files), plain])
    lost, wrong, acknowledged, lazy, cuts = [], [], 0, 0, 0
    with FakeRegistry() as registry:
        serve(registry, builder)
        names = [f"{registry.host}/lazy:t{number}" for number in range(IMAGES)]
        with _lazy_node(tmp_path / "root") as node:
            for name in names:
                trio.run(partial(node.pull, name, PullOptions(plain_http=True)))
            expected = _trees(node)
        while cuts < MANY // 2:
            (tmp_path / str(cuts)).mkdir()
            with disk(tmp_path / str(cuts), 512 << 20) as where:
                try:
                    made = list(_cuts(where, LAZY_PULLS, *names, count=MANY // 2 - cuts))
                finally:
                    _end_daemon(where.directory / "root")
                assert made, "the pulls ended before the power was cut"
                for cut in made:
                    with (
                        mounted(cut.image, tmp_path / "cut") as directory,
                        _lazy_node(directory / "root") as node,
                    ):
                        trees = _trees(node)
                        lazy += sum(
                            bool(report.status and report.status.lazy)
                            for name in trees
                            for report in node.images.status(name, Platform.local(), ("fuse",))
                        )
                    check(cut.image)
                    cut.image.unlink()
                    lost += [name for name in cut.acknowledged if name not in trees]
                    wrong += [name for name, tree in trees.items() if expected[name] != tree]
                    acknowledged += len(cut.acknowledged)
                cuts += len(made)
    record_property(
        "shown",
        f"power cuts, lazy layers: {cuts} images of the disk, {acknowledged} acknowledged pulls,"
        f" {len(lost)} lost; {lazy} lazy layers looked at, {len(wrong)} trees wrong",
    )
    assert lazy
    assert (lost, wrong) == ([], [])
