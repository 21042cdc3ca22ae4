"""Pulls that end in the middle: what they leave, and what the next command makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from support.faults import stall
from support.layout import File, Layer, LayoutBuilder, tar_of
from support.nodes import Watched, children, until
from support.roots import Root, Served, served

BACKENDS: Final = ("native", pytest.param("overlay", marks=pytest.mark.needs_root))
HALF: Final = 2000
FILES: Final = 20_000


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[LayoutBuilder, tuple[Layer, ...]]:
    builder = LayoutBuilder(tmp_path_factory.mktemp("slow") / "layout")
    small = builder.add_layer(tar_of(File("etc/motd", b"hello\n")))
    many = [File(f"{n % 100:02}/{n:05}", b"%d" % n) for n in range(FILES)]
    layers = (small, builder.add_layer(tar_of(*many)))
    builder.add_image("latest", layers)
    return builder, layers


@pytest.fixture
def image(layout: tuple[LayoutBuilder, tuple[Layer, ...]]) -> Iterator[Served]:
    with served(*layout) as image:
        yield image


@pytest.fixture(params=BACKENDS)
def root(request: pytest.FixtureRequest, tmp_path: Path, image: Served) -> Root:
    return Root(tmp_path / "root", request.param, image)


def check_interrupted(root: Root) -> None:
    """Check that nothing is unfinished, and that at most the first layer is there."""
    assert root.check_clean() in ([], [str(root.image.layers[0].diff_id)])


def _applying(root: Root, child: subprocess.Popen[str]) -> tuple[Watched, Watched]:
    """Return the zygote and the worker, stopped, in the midst of the second layer."""

    def workers() -> list[int]:
        return [worker for zygote in children(child.pid) for worker in children(zygote)]

    directory = root.path / f"snapshotters/{root.backend}/snapshots"

    def begun() -> bool:
        # Only the second layer has such names; the first one's worker may run beside it.
        return any(directory.glob("*/fs/0[0-9]")) and len(workers()) == 1

    until(begun, "the second layer alone is being unpacked")
    (worker,) = workers()
    os.kill(worker, signal.SIGSTOP)
    (zygote,) = children(child.pid)
    return Watched(zygote), Watched(worker)


def test_a_killed_download_is_resumed(root: Root) -> None:
    root.image.registry.spoil(f"GET /v2/slow{root.image.last}", stall(HALF))

    with root.pulling() as child:
        until(lambda: root.arrived() == HALF, "half a layer has arrived")
        until(lambda: len(root.unfinished()["ingests"]) == 1, "everything else has")
        (zygote,) = children(child.pid)
        with closing(Watched(zygote)) as watched:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            assert watched.wait(), "the zygote outlived its parent"
    before = root.unfinished()
    assert len(before["mount points"]) == len(before["owners"]) == 1
    assert not [key for key in root.snapshots() if key.startswith("extract-")]
    after = root.unfinished()
    assert (after["mount points"], after["owners"], after["owners of snapshots"]) == ((), (), ())
    assert len(after["ingests"]) == 1
    assert root.arrived() == HALF
    root.pull()
    *_, resumed = root.image.registry.requests(root.image.last)
    assert resumed.headers["range"] == f"bytes={HALF}-"
    assert root.snapshots() == root.image.chain
    assert root.unfinished()["ingests"] == ()


def test_a_killed_unpacking_leaves_nothing(root: Root) -> None:
    with root.pulling() as child:
        zygote, worker = _applying(root, child)
        with closing(zygote), closing(worker):
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert zygote.wait(), "the zygote outlived its parent"
            assert worker.wait(), "the worker outlived its parent"
    before = root.unfinished()
    # Beside the layers there may be what the first one's inventory is taken through.
    assert len(before["snapshots"]) >= 2
    assert before["mount points"]
    assert len(before["owners"]) == 1
    root.snapshots()
    check_interrupted(root)
    root.pull()
    assert root.snapshots() == root.image.chain


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_unpacking_cleans_up_itself(root: Root, number: signal.Signals) -> None:
    with root.pulling() as child:
        zygote, worker = _applying(root, child)
        with closing(zygote), closing(worker):
            child.send_signal(number)
            out, err = child.communicate()
            assert worker.wait()
            assert zygote.wait()
    assert (child.returncode, out) == (128 + number, ""), err
    assert err.splitlines()[-1] == f"snapcore: interrupted by {number.name}; cleaned up"
    # Nobody has opened the node since.
    check_interrupted(root)
