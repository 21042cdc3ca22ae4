"""A collector that never rests, beside imports, cancels, mounts, tags and removals."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import trio
from support.layout import File, LayoutBuilder, tar_of

from snapcore.archive import tree_digest
from snapcore.config import NodeConfig
from snapcore.errors import NotFound
from snapcore.node import Node
from snapcore.oci import Platform

NAMES: Final = tuple(f"localhost/race:{tag}" for tag in "abcd")
PAUSE_SECONDS: Final = 0.05


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the layouts of images that share all their layers but the last."""
    shared = [tar_of(*(File(f"{part}/{n}", b"%d" % n) for n in range(50))) for part in ("x", "y")]
    paths = []
    for name in NAMES:
        builder = LayoutBuilder(tmp_path_factory.mktemp("race") / "layout")
        layers = [builder.add_layer(tar) for tar in (*shared, tar_of(File("own", name.encode())))]
        builder.add_image("latest", layers)
        paths.append(str(builder.directory))
    return tuple(paths)


class Busy:
    """Does at random what users do, and finds everything that it needs every time."""

    def __init__(self, node: Node, layouts: tuple[str, ...], seed: int) -> None:
        self._node: Final = node
        self._layouts: Final = dict(zip(NAMES, layouts, strict=True))
        self._random: Final = random.Random(seed)
        self._digests: Final[dict[str, str]] = {}
        self.done: Final[dict[str, int]] = {}

    async def step(self) -> None:
        name = self._random.choice(NAMES)
        step = self._random.choice((self._import, self._import, self._cancel, self._look))
        if self._random.random() < 0.3:
            step = self._random.choice((self._rename, self._remove))
        await step(name)
        word = step.__name__.strip("_")
        self.done[word] = self.done.get(word, 0) + 1

    async def _import(self, name: str) -> None:
        await self._node.import_(self._layouts[name], name=name)
        await self._look(name, must=True)

    async def _cancel(self, name: str) -> None:
        with trio.move_on_after(self._random.random() * 0.05):
            await self._node.import_(self._layouts[name], name=name)

    async def _look(self, name: str, *, must: bool = False) -> None:
        try:
            self._node.images.get(name)
        except NotFound:
            assert not must
            return
        with self._node.mounted(name) as directory:
            digest = tree_digest(directory).digest
        assert self._digests.setdefault(name, str(digest)) == str(digest)
        check = self._node.images.check(name, Platform.local())
        assert check.missing == ()

    async def _rename(self, name: str) -> None:
        with suppress(NotFound):
            self._node.tag(name, f"{name}-again")
            self._node.images.remove(name)
            self._node.tag(f"{name}-again", name)
            self._node.images.remove(f"{name}-again")
            await self._look(name, must=True)

    async def _remove(self, name: str) -> None:
        """Remove all images but one."""
        for image in self._node.images.list():
            if image.name != name:
                self._node.images.remove(image.name)


@contextmanager
def collecting(config: NodeConfig) -> Iterator[list[int]]:
    """Collect again and again in a thread; yield how much each round removed."""
    stop, removed = threading.Event(), [0]
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            with Node.open(config) as node:
                while not stop.wait(PAUSE_SECONDS):
                    report = node.garbage.collect()
                    assert not report.failed
                    removed.append(len(report.removed))
        except BaseException as error:  # noqa: BLE001  the test raises it again
            trouble.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield removed
    finally:
        stop.set()
        thread.join()
    assert trouble == []


@pytest.mark.parametrize("snapshotter", ["native", "overlay"])
@pytest.mark.parametrize(
    "seconds", [10, pytest.param(120, marks=(pytest.mark.long, pytest.mark.timeout(600)))]
)
@pytest.mark.needs_root
def test_nothing_needed_is_ever_collected(
    tmp_path: Path, layouts: tuple[str, ...], snapshotter: str, seconds: int, census: None
) -> None:
    config = replace(NodeConfig.at(str(tmp_path / "root")), snapshotters=(snapshotter,))
    with Node.open(config) as node:
        busy = Busy(node, layouts, seed=seconds)
        end = time.monotonic() + seconds
        with collecting(config) as removed:
            # On a busy machine the time may pass before anything was collected.
            while time.monotonic() < end or (not sum(removed) and time.monotonic() < end + 60):
                trio.run(busy.step)
        for image in node.images.list():
            node.images.remove(image.name)
        node.garbage.collect()
        assert list(node.snapshotter().walk()) == []
        assert list(node.content.walk()) == []
        assert node.leases.list() == ()
        snapshots = tmp_path / "root/snapshotters" / snapshotter / "snapshots"
        assert list(snapshots.iterdir()) == []
    assert sum(removed) > 0, (len(removed), busy.done)
    assert set(busy.done) >= {"import", "remove"}, busy.done
