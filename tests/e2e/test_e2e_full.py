"""A disk that fills up at whatever moment: what is said, what is left, and what comes after."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from support.cli import Outcome, call
from support.layout import File, Layer, LayoutBuilder, tar_of
from support.roots import Root, Served, served

from snapcore.linux import MountFlag, mount, umount

pytestmark = pytest.mark.needs_root
BACKENDS: Final = ("native", "overlay")
KIB: Final = 1024
FILES: Final = 300
# Layers that are applied at the same time fail together, and the database beside them.
APPLYING: Final = r"layer sha256:\w+ for snapshotter '\w+': layer entry b'|has no room to write"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[LayoutBuilder, tuple[Layer, ...]]:
    """Make an image of about 64 KiB, 500 KiB that compress well, and 150 KiB that do not."""
    builder = LayoutBuilder(tmp_path_factory.mktemp("full") / "layout")
    noise = random.Random(1).randbytes(150 * KIB)
    layers = (
        builder.add_layer(tar_of(*(File(f"many/{n:03}", b"%d" % n) for n in range(FILES)))),
        builder.add_layer(tar_of(File("big/zeros", bytes(500 * KIB)), File("many/000", b"new"))),
        builder.add_layer(tar_of(File("big/noise", noise)), "none"),
    )
    builder.add_image("latest", layers)
    return builder, layers


@pytest.fixture
def image(layout: tuple[LayoutBuilder, tuple[Layer, ...]]) -> Iterator[Served]:
    with served(*layout) as image:
        yield image


@dataclass(frozen=True, slots=True)
class Disk:
    """A small disk, and a root on it."""

    root: Root
    place: Path

    def grow(self) -> None:
        """Make it large enough for everything."""
        mount("tmpfs", str(self.place), "tmpfs", MountFlag.REMOUNT, "size=64m,nr_inodes=10000")

    def snapshots(self) -> set[str]:
        """Return what is there, without opening the node for writing, which would clear up."""
        if not self.root.unfinished()["snapshots"]:
            return set()
        mount("tmpfs", str(self.place), "tmpfs", MountFlag.REMOUNT | MountFlag.RDONLY)
        try:
            return set(self.root.snapshots())
        finally:
            mount("tmpfs", str(self.place), "tmpfs", MountFlag.REMOUNT)

    def pull(self, *flags: str) -> Outcome:
        """Pull quietly, in this process."""
        return call(*self.root.pull_arguments(), "--quiet", *flags)


@contextmanager
def disk(tmp_path: Path, backend: str, image: Served, options: str) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", MountFlag(0), options)
    try:
        yield Disk(Root(place / "root", backend, image), place)
    finally:
        umount(str(place))


def check_refusal(small: Disk, outcome: Outcome) -> str:
    """Check that a full disk is said in one sentence and leaves nothing half; return it."""
    assert (outcome.code, outcome.out) == (7, ""), outcome.err
    said = outcome.err.splitlines()[-1]
    assert said.startswith("snapcore: ")
    assert str(small.place) in said
    left = small.root.unfinished()
    names = small.snapshots()
    assert names < set(small.root.image.chain)
    assert len(left.pop("snapshots")) == len(names)
    del left["ingests"]
    assert left == dict.fromkeys(left, ())
    return said


def check_pull(small: Disk) -> str:
    """Pull onto a small disk, and again once it has grown; return why the first pull failed."""
    outcome = small.pull()
    said = "" if outcome.code == 0 else check_refusal(small, outcome)
    if said:
        small.grow()
        assert small.pull().code == 0
    assert small.root.check_clean() == small.root.image.chain
    return said


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("size=64k", "node.db"),
        ("size=128k", "to try anything out"),
        ("size=448k", "the image needs at least"),
        ("size=832k", APPLYING),
        ("size=64m,nr_inodes=4", "root/lock"),
        ("size=64m,nr_inodes=60", "to try anything out"),
        ("size=64m,nr_inodes=150", APPLYING),
    ],
)
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, image: Served, backend: str, options: str, named: str
) -> None:
    with disk(tmp_path, backend, image, options) as small:
        assert re.search(named, check_pull(small))


def test_a_copy_of_the_parent_that_does_not_fit(tmp_path: Path, image: Served) -> None:
    with disk(tmp_path, "native", image, "size=1984k") as small:
        said = check_pull(small)
    assert re.search(r"copying b'\d+' of '.*/snapshots/1/fs'", said)


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [f"size={kib}k" for kib in range(16, 4100, 128)]
    + [f"size=64m,nr_inodes={count}" for count in (*range(2, 40, 3), *range(40, 1400, 100))],
)
def test_a_disk_of_any_size(tmp_path: Path, image: Served, backend: str, options: str) -> None:
    with disk(tmp_path, backend, image, options) as small:
        check_pull(small)


@pytest.mark.parametrize("choice", ["native", "auto"])
def test_a_backend_that_cannot_be_tried_is_not_called_unusable(
    tmp_path: Path, image: Served, choice: str
) -> None:
    with disk(tmp_path, "native", image, "size=128k") as small:
        config = tmp_path / "config.toml"
        config.write_text(f'snapshotter = "{choice}"\n', encoding="utf-8")
        where = ("--root", str(small.root.path), "--config", str(config))
        outcome = call(*where, "pull", "--plain-http", image.reference)
        check_refusal(small, outcome)


def test_a_blob_that_does_not_fit_is_resumed(tmp_path: Path, image: Served) -> None:
    with disk(tmp_path, "native", image, "size=300k") as small:
        outcome = small.pull("--no-unpack")
        said = check_refusal(small, outcome)
        found = re.search(r"ingest '\w+-(sha256:\w+)' in '(.*)'", said)
        assert found, said
        # Two blobs race for the room: the one that is named may have nothing yet.
        data = Path(found[2]) / "data"
        fitted = data.stat().st_size if data.exists() else 0
        small.grow()
        assert small.pull("--no-unpack").code == 0
        assert small.root.unfinished()["ingests"] == ()
    *_, resumed = image.registry.requests(f"GET /v2/slow/blobs/{found[1]}")
    assert resumed.headers.get("range", "bytes=0-") == f"bytes={fitted}-"
