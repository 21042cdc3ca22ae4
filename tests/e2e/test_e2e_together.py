"""Many processes pull one image into one root at once, and some of them are killed."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from support.faults import stall
from support.layout import File, Layer, LayoutBuilder, tar_of
from support.nodes import flock_holder, until
from support.roots import Root, Served, served

BACKENDS: Final = ("native", pytest.param("overlay", marks=pytest.mark.needs_root))
PULLS: Final = 6
FEW: Final = 4
MANY: Final = 16
NOISE_BYTES: Final = 1 << 20
LAYERS: Final = 8
FILES: Final = 400


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[LayoutBuilder, tuple[Layer, ...]]:
    builder = LayoutBuilder(tmp_path_factory.mktemp("many") / "layout")
    layers = [
        builder.add_layer(tar_of(*(File(f"{layer}/{n:03}", b"%d" % n) for n in range(FILES))))
        for layer in range(LAYERS - 1)
    ]
    noise = random.Random(1).randbytes(NOISE_BYTES)
    layers.append(builder.add_layer(tar_of(File("noise", noise)), "none"))
    builder.add_image("latest", layers)
    return builder, tuple(layers)


@pytest.fixture
def image(layout: tuple[LayoutBuilder, tuple[Layer, ...]]) -> Iterator[Served]:
    with served(*layout) as image:
        yield image


@pytest.fixture(params=BACKENDS)
def root(request: pytest.FixtureRequest, tmp_path: Path, image: Served) -> Root:
    return Root(tmp_path / "root", request.param, image)


def downloads(root: Root) -> list[int]:
    """Return how often each layer was asked for."""
    digests = [layer.descriptor.digest for layer in root.image.layers]
    return [len(root.image.registry.requests(f"GET /v2/slow/blobs/{d}")) for d in digests]


def done_so_far(root: Root) -> int:
    """Return how far all pulls together are: requests, and directories that were ever made."""
    directory = root.path / f"snapshotters/{root.backend}/snapshots"
    names = [path.name.rpartition("-")[2] for path in directory.glob("*")]
    made = max((int(name) for name in names if name.isdigit()), default=0)
    return len(root.image.registry.server.seen) + made


def end(child: subprocess.Popen[str]) -> None:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "sha256:" in out


def test_each_blob_and_each_layer_is_made_once(root: Root) -> None:
    with ExitStack() as stack:
        for child in [stack.enter_context(root.pulling()) for _ in range(PULLS)]:
            end(child)
    assert downloads(root) == [1] * LAYERS
    assert root.check_clean() == root.image.chain


@pytest.mark.parametrize("pulls", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_no_byte_comes_twice_when_each_downloader_is_killed(root: Root, pulls: int) -> None:
    layer = root.image.layers[-1].descriptor
    kills = pulls // 2
    step = layer.size // (kills + 1)
    root.image.registry.spoil(f"GET /v2/slow{root.image.last}", *[stall(step)] * kills)
    with ExitStack() as stack:
        children = {
            child.pid: child
            for child in (stack.enter_context(root.pulling()) for _ in range(pulls))
        }
        for kill in range(1, kills + 1):
            until(lambda: root.arrived() == kill * step, f"part {kill} has arrived")  # noqa: B023 - called at once
            directory = root.unfinished_layer()
            assert directory
            victim = children.pop(flock_holder(directory / "lock"))
            victim.kill()
            victim.communicate()
        for child in children.values():
            end(child)
    requests = root.image.registry.requests(f"GET /v2/slow{root.image.last}")
    assert [request.headers.get("range", "bytes=0-") for request in requests] == [
        f"bytes={kill * step}-" for kill in range(kills + 1)
    ]
    # What the others were downloading besides was small, and may have come twice.
    assert sum(downloads(root)) <= LAYERS + kills + kills * (LAYERS - 1)
    assert root.snapshots() == root.image.chain
    assert root.check_clean() == root.image.chain


def check_with_kills(root: Root, seed: int, count: int) -> None:
    moments = random.Random(seed)
    with ExitStack() as stack:
        pulls = [stack.enter_context(root.pulling()) for _ in range(count)]
        victims = moments.sample(pulls, count // 2)
        for victim in victims:
            when = moments.randrange(count, 2 * LAYERS + 2 * count)
            until(lambda: done_so_far(root) >= when or victim.poll() is not None, f"{when} steps")  # noqa: B023 - called at once
            victim.kill()
        for child in pulls:
            if child in victims:
                child.communicate()
                assert child.returncode in (-signal.SIGKILL, 0)
            else:
                end(child)
    assert max(downloads(root)) <= 1 + len(victims)
    # The next one to open the node clears up behind the dead.
    assert root.snapshots() == root.image.chain
    assert root.check_clean() == root.image.chain


@pytest.mark.parametrize("seed", range(2))
def test_survivors_succeed_when_half_of_them_are_killed(root: Root, seed: int) -> None:
    check_with_kills(root, seed, PULLS)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 106))
def test_survivors_succeed_when_half_of_them_are_killed_for_long(root: Root, seed: int) -> None:
    check_with_kills(root, seed, MANY)
