"""The conformance checks, and what is btrfs' own, on a loop-mounted btrfs."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapcore.conformance import OpenRoot
from snapcore.conformance.suite import SnapshotterConformance
from snapcore.errors import SnapcoreError
from snapcore.mount import temporary_mount
from snapcore.snapshots import no_checkpoint, open_snapshotter, probe_snapshotter
from snapcore_btrfs import BtrfsSnapshotter, subvolume

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts and subvolumes")


@pytest.fixture(scope="module")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a small btrfs from a file, for all tests."""
    directory = tmp_path_factory.mktemp("btrfs")
    image, target = directory / "image", directory / "mnt"
    with open(image, "wb") as stream:
        stream.truncate(2 << 30)
    target.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True)
    yield target
    subprocess.run(["umount", str(target)], check=True)


@pytest.fixture
def root(filesystem: Path, request: pytest.FixtureRequest) -> str:
    return str(filesystem / f"root-{request.node.name}")


@pytest.fixture
def btrfs(root: str) -> Iterator[BtrfsSnapshotter]:
    snapshotter = BtrfsSnapshotter(root)
    yield snapshotter
    snapshotter.close()


def _layer(btrfs: BtrfsSnapshotter, name: str, parent: str = "") -> None:
    btrfs.prepare(f"for {name}", parent, {}, no_checkpoint)
    btrfs.commit(name, f"for {name}", {}, "", no_checkpoint)


class TestConformance(SnapshotterConformance):
    @pytest.fixture
    def open_root(self, root: str) -> OpenRoot:
        """Open it on the btrfs, wherever the suite would have its state root."""
        return lambda _root: open_snapshotter("btrfs", root)


def test_a_child_is_a_subvolume_and_copies_nothing(btrfs: BtrfsSnapshotter, tmp_path: Path) -> None:
    mounts = btrfs.prepare("key", "", {}, no_checkpoint)
    Path(mounts[0].source, "large").write_bytes(os.urandom(8 << 20))
    btrfs.commit("base", "key", {}, "", no_checkpoint)
    (mount,) = btrfs.prepare("child", "base", {}, no_checkpoint)
    assert Path(mount.source).stat().st_ino == 256
    assert Path(mount.source, "large").stat().st_size == 8 << 20
    usage = btrfs.usage("child", no_checkpoint)
    assert (usage.inodes, usage.size) == (0, 0)


def test_a_committed_subvolume_is_sealed_even_for_a_mount_from_before(
    btrfs: BtrfsSnapshotter, tmp_path: Path
) -> None:
    with temporary_mount(btrfs.prepare("key", "", {}, no_checkpoint), str(tmp_path)) as top:
        Path(top, "before").touch()
        btrfs.commit("name", "key", {}, "", no_checkpoint)
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(top, "after").touch()
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("use", ["prepare", "view"])
def test_what_a_crash_left_unsealed_is_sealed_at_its_first_use(
    btrfs: BtrfsSnapshotter, root: str, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: str) -> None:
        raise OSError(errno.EIO, "as good as crashed", path)

    with monkeypatch.context() as patch:
        patch.setattr(subvolume, "seal", crash)
        _layer(btrfs, "base")
    (layer,) = Path(root, "snapshots").iterdir()
    (layer / "fs" / "late").touch()
    getattr(btrfs, use)("key", "base", {}, no_checkpoint)
    with pytest.raises(OSError, match="Read-only"):
        (layer / "fs" / "later").touch()


def test_cleanup_deletes_subvolumes_with_what_is_in_them(
    btrfs: BtrfsSnapshotter, root: str
) -> None:
    _layer(btrfs, "base")
    _layer(btrfs, "top", "base")
    for name in ("top", "base"):
        btrfs.remove(name, no_checkpoint)
    assert btrfs.cleanup(no_checkpoint).directories == 2
    assert os.listdir(f"{root}/snapshots") == []


def test_a_subvolume_made_inside_keeps_the_files_until_it_is_gone(
    btrfs: BtrfsSnapshotter, root: str
) -> None:
    (mount,) = btrfs.prepare("key", "", {}, no_checkpoint)
    subvolume.create(f"{mount.source}/nested")
    btrfs.remove("key", no_checkpoint)
    with pytest.raises(SnapcoreError, match="cannot delete subvolume"):
        btrfs.cleanup(no_checkpoint)
    (left,) = Path(root, "snapshots").iterdir()
    subvolume.delete(str(left / "fs" / "nested"))
    assert btrfs.cleanup(no_checkpoint).directories == 1


def test_elsewhere_it_is_not_usable_and_says_so() -> None:
    probe = probe_snapshotter("btrfs", "/dev/shm/snapcore-btrfs-test")
    assert not probe.usable
    assert probe.reason.startswith("no btrfs subvolumes at '/dev/shm'")
