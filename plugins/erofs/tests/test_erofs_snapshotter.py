"""Layers that are images, beside layers that are directories, on one state root."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.tars import directory, file, hardlink, opaque, symlink, tar, whiteout

from snapcore.conformance.emptying import remove_all
from snapcore.errors import (
    DataLoss,
    FailedPrecondition,
    RefusedInput,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from snapcore.linux import MountFlag, UnmountFlag, mount, umount
from snapcore.mount import mounts_below, temporary_mount
from snapcore.snapshots import (
    Capability,
    LayerLimits,
    Snapshotter,
    open_snapshotter,
    probe_snapshotter,
)
from snapcore_erofs import layers as layers_module
from snapcore_erofs.received import receive

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]
LIMITS = LayerLimits(1 << 30, 1000, 100, 1 << 16)
BASE = tar(
    directory(b"etc"),
    file(b"etc/one", b"1" * 700),
    file(b"etc/two", b"2"),
    file(b"etc/both", b"b"),
    hardlink(b"etc/same", b"etc/both"),
    symlink(b"etc/link", b"one"),
    directory(b"var"),
    file(b"var/old", b"old"),
)
UPPER = tar(
    whiteout(b"etc/two"),
    hardlink(b"etc/again", b"etc/one"),
    file(b"etc/new", b"new"),
    opaque(b"var"),
    file(b"var/new", b"new"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state root on which images can be mounted."""
    probe = probe_snapshotter("erofs", str(tmp_path / "root"))
    if not probe.usable:
        pytest.skip(probe.reason)
    return tmp_path / "root"


@pytest.fixture
def snapshotter(root: Path) -> Iterator[Snapshotter]:
    """The snapshotter; all it had is removed at the end."""
    with open_snapshotter("erofs", str(root)) as found:
        yield found
        remove_all(found)


def send(s: Snapshotter, key: str, layer: bytes, limits: LayerLimits = LIMITS) -> None:
    """Have a layer received in the target of a snapshot, as a worker does."""
    stream = os.memfd_create("layer")
    try:
        os.write(stream, layer)
        os.lseek(stream, 0, os.SEEK_SET)
        receive(s.target(key).directory, stream, limits)
    finally:
        os.close(stream)


def unpack(s: Snapshotter, name: str, layer: bytes, parent: str = "") -> None:
    s.prepare(f"extract {name}", parent)
    send(s, f"extract {name}", layer)
    s.commit(name, f"extract {name}")


@contextmanager
def seen(s: Snapshotter, name: str, place: Path) -> Iterator[Path]:
    mounts = s.view("seen", name)
    try:
        with temporary_mount(mounts, str(place)) as target:
            yield Path(target)
    finally:
        s.remove("seen")


def images(root: Path) -> list[str]:
    targets = [found.target for found in mounts_below(str(root))]
    return [target for target in targets if "/mounts/" in target]


def test_an_image_over_an_image(snapshotter: Snapshotter, root: Path, tmp_path: Path) -> None:
    unpack(snapshotter, "base", BASE)
    unpack(snapshotter, "upper", UPPER, "base")
    with seen(snapshotter, "upper", tmp_path) as tree:
        assert sorted(os.listdir(tree / "etc")) == ["again", "both", "link", "new", "one", "same"]
        assert (tree / "etc/again").read_bytes() == b"1" * 700
        assert os.path.samefile(tree / "etc/again", tree / "etc/one")
        assert os.path.samefile(tree / "etc/same", tree / "etc/both")
        assert os.listdir(tree / "var") == ["new"]
        assert len(images(root)) == 2
    assert images(root) == []


def test_a_layer_is_its_tar_and_a_little_more(snapshotter: Snapshotter, root: Path) -> None:
    unpack(snapshotter, "base", BASE)
    (tar_path,) = root.rglob("tar")
    assert tar_path.read_bytes() == BASE
    assert tar_path.stat().st_mode & 0o777 == 0o600
    usage = snapshotter.usage("base")
    assert len(BASE) < usage.size < len(BASE) + 16384
    assert usage.inodes == 3


def test_what_is_written_on_an_image_is_a_directory(
    snapshotter: Snapshotter, tmp_path: Path
) -> None:
    unpack(snapshotter, "base", BASE)
    with temporary_mount(snapshotter.prepare("work", "base"), str(tmp_path)) as tree:
        Path(tree, "etc/one").write_bytes(b"changed")
        Path(tree, "etc/two").unlink()
    snapshotter.commit("changed", "work")
    with seen(snapshotter, "changed", tmp_path) as shown:
        assert (shown / "etc/one").read_bytes() == b"changed"
        assert not (shown / "etc/two").exists()
    # And an image on top of that; but for what needs bytes that are in no tar.
    unpack(snapshotter, "upper", tar(file(b"etc/three", b"3")), "changed")
    with seen(snapshotter, "upper", tmp_path) as shown:
        assert (shown / "etc/one").read_bytes() == b"changed"
        assert (shown / "etc/three").read_bytes() == b"3"
    snapshotter.prepare("link", "changed")
    send(snapshotter, "link", tar(hardlink(b"etc/here", b"etc/one")))
    with pytest.raises(Unimplemented, match="unpack it with another snapshotter"):
        snapshotter.commit("linked", "link")


def copies(tree: str, real: Path) -> None:
    forged = Path(tree, ".snapcore-layer")
    forged.mkdir()
    for name in ("tar", "entries"):
        (forged / name).write_bytes((real / name).read_bytes())


def links(tree: str, real: Path) -> None:
    """As seen from below the snapshot's directory, where its own number lies."""
    forged = Path(tree, ".snapcore-layer")
    forged.mkdir()
    (forged / "entries").symlink_to("../../number")
    (forged / "tar").symlink_to(real / "tar")


def linked_tar(tree: str, real: Path) -> None:
    copies(tree, real)
    tar_path = Path(tree, ".snapcore-layer/tar")
    tar_path.unlink()
    tar_path.symlink_to("/etc/passwd")


def linked_directory(tree: str, real: Path) -> None:
    Path(tree, ".snapcore-layer").symlink_to(real)


def pipes(tree: str, real: Path) -> None:
    forged = Path(tree, ".snapcore-layer")
    forged.mkdir()
    for name in ("tar", "entries"):
        os.mkfifo(forged / name)


@pytest.mark.parametrize("forge", [copies, links, linked_tar, linked_directory, pipes])
def test_nobody_can_pass_files_off_as_a_layer(
    forge: Callable[[str, Path], None], snapshotter: Snapshotter, tmp_path: Path
) -> None:
    unpack(snapshotter, "base", BASE)
    snapshotter.prepare("real", "")
    send(snapshotter, "real", UPPER)
    real = Path(snapshotter.target("real").directory, ".snapcore-layer")
    with temporary_mount(snapshotter.prepare("work", "base"), str(tmp_path)) as tree:
        forge(tree, real)
        Path(tree, "mine").write_bytes(b"mine")
    snapshotter.commit("forged", "work")
    with seen(snapshotter, "forged", tmp_path) as shown:
        assert os.path.lexists(shown / ".snapcore-layer")
        assert (shown / "mine").read_bytes() == b"mine"
        assert (shown / "etc/two").exists()


def test_what_was_written_beside_a_layer_is_not_lost(
    snapshotter: Snapshotter, tmp_path: Path
) -> None:
    with temporary_mount(snapshotter.prepare("work", ""), str(tmp_path)) as tree:
        send(snapshotter, "work", BASE)
        Path(tree, "mine").write_bytes(b"mine")
    with pytest.raises(FailedPrecondition, match="something else that was written there"):
        snapshotter.commit("base", "work")


def test_an_image_of_a_commit_that_failed_does_not_show(
    snapshotter: Snapshotter, tmp_path: Path
) -> None:
    unpack(snapshotter, "taken", BASE)
    snapshotter.prepare("work", "")
    send(snapshotter, "work", BASE)
    directory = Path(snapshotter.target("work").directory)
    # As if the record had been refused, at the end.
    (directory.parent / "layer").mkdir()
    (directory.parent / "layer/image").write_bytes(b"left")
    with temporary_mount(snapshotter.mounts("work"), str(tmp_path)) as tree:
        shutil.rmtree(Path(tree, ".snapcore-layer"))
        Path(tree, "mine").write_bytes(b"mine")
    snapshotter.commit("mine", "work")
    with seen(snapshotter, "mine", tmp_path) as shown:
        assert os.listdir(shown) == ["mine"]


def test_a_parent_that_is_made_again_takes_no_bytes_from_its_children(
    snapshotter: Snapshotter, root: Path, tmp_path: Path
) -> None:
    unpack(snapshotter, "base", BASE)
    unpack(snapshotter, "upper", UPPER, "base")
    snapshotter.mark_broken("base")
    unpack(snapshotter, "base", BASE)
    snapshotter.cleanup()
    with seen(snapshotter, "upper", tmp_path) as shown:
        assert (shown / "etc/again").read_bytes() == b"1" * 700
        assert (shown / "etc/both").read_bytes() == b"b"


def test_links_into_many_layers(snapshotter: Snapshotter, tmp_path: Path) -> None:
    parent = ""
    for number in range(90):
        unpack(snapshotter, f"layer {number}", tar(file(b"f%d" % number, b"%d" % number)), parent)
        parent = f"layer {number}"
    unpack(snapshotter, "top", tar(*(hardlink(b"l%d" % n, b"f%d" % n) for n in range(90))), parent)
    with seen(snapshotter, "top", tmp_path) as shown:
        assert all((shown / f"l{n}").read_bytes() == b"%d" % n for n in range(90))


def test_a_commit_asks_whether_to_go_on(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("work", "")
    send(snapshotter, "work", tar(*(file(b"d%d/f" % n, b"") for n in range(900))))

    def gone() -> None:
        raise Unavailable("the caller has gone away")

    with pytest.raises(Unavailable, match="gone away"):
        snapshotter.commit("base", "work", checkpoint=gone)
    snapshotter.commit("base", "work")


def test_an_image_that_is_gone_is_said_to_be(snapshotter: Snapshotter, root: Path) -> None:
    unpack(snapshotter, "base", BASE)
    for image in root.rglob("layer/image"):
        image.unlink()
    with pytest.raises(DataLoss, match="is gone"):
        snapshotter.view("seen", "base")


def test_a_commit_that_failed_can_be_tried_again(
    snapshotter: Snapshotter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*arguments: object) -> None:
        raise ResourceExhausted("no space")

    snapshotter.prepare("work", "")
    send(snapshotter, "work", BASE)
    with monkeypatch.context() as patch:
        patch.setattr(layers_module, "write_image", full)
        with pytest.raises(ResourceExhausted):
            snapshotter.commit("base", "work")
    snapshotter.commit("base", "work")
    with seen(snapshotter, "base", tmp_path) as shown:
        assert (shown / "etc/two").read_bytes() == b"2"


def test_a_layer_can_be_rebased(snapshotter: Snapshotter, tmp_path: Path) -> None:
    unpack(snapshotter, "base", BASE)
    snapshotter.prepare("work", "")
    send(snapshotter, "work", UPPER)
    snapshotter.commit("upper", "work", parent="base")
    with seen(snapshotter, "upper", tmp_path) as shown:
        assert (shown / "etc/again").read_bytes() == b"1" * 700
        assert not (shown / "etc/two").exists()


@pytest.mark.parametrize(
    ("layer", "limits", "says"),
    [
        (b"no tar".ljust(512, b"!"), LIMITS, "checksum|malformed|header"),
        (BASE[:600], LIMITS, "cut off"),
        (BASE, LayerLimits(1 << 30, 3, 100, 100), "entries"),
        (BASE, LayerLimits(500, 100, 100, 100), "bytes of data"),
        (tar(file(b"a/../../b", b"")), LIMITS, r"\.\."),
    ],
)
def test_a_layer_that_is_refused_when_it_comes(
    layer: bytes, limits: LayerLimits, says: str, snapshotter: Snapshotter
) -> None:
    snapshotter.prepare("work", "")
    with pytest.raises(RefusedInput, match=says):
        send(snapshotter, "work", layer, limits)


def test_a_layer_that_is_refused_over_its_parent(snapshotter: Snapshotter) -> None:
    unpack(snapshotter, "base", BASE)
    snapshotter.prepare("work", "base")
    send(snapshotter, "work", tar(hardlink(b"here", b"etc/nothing")))
    with pytest.raises(RefusedInput, match="does not exist"):
        snapshotter.commit("upper", "work")
    assert snapshotter.stat("work").name == "work"


def test_entries_that_were_damaged(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("work", "")
    send(snapshotter, "work", BASE)
    entries = Path(snapshotter.target("work").directory, ".snapcore-layer/entries")
    entries.write_bytes(entries.read_bytes()[:-3])
    with pytest.raises(DataLoss, match="are damaged"):
        snapshotter.commit("base", "work")


def test_mounts_are_made_again_after_a_reboot(
    snapshotter: Snapshotter, root: Path, tmp_path: Path
) -> None:
    unpack(snapshotter, "base", BASE)
    before = snapshotter.prepare("work", "base")
    for found in images(root):
        umount(found, UnmountFlag.DETACH)
    with open_snapshotter("erofs", str(root)) as again:
        assert again.mounts("work") == before
        with temporary_mount(before, str(tmp_path)) as tree:
            assert Path(tree, "etc/two").read_bytes() == b"2"
    # What others use stays when one process ends.
    assert len(images(root)) == 1


def test_many_prepare_and_remove_at_once(
    snapshotter: Snapshotter, root: Path, tmp_path: Path
) -> None:
    unpack(snapshotter, "base", BASE)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                key = f"work {number} {turn}"
                with temporary_mount(snapshotter.prepare(key, "base"), str(tmp_path)) as tree:
                    assert Path(tree, "etc/two").read_bytes() == b"2"
                snapshotter.remove(key)
        except BaseException as error:  # noqa: BLE001 - told below
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    snapshotter.cleanup()
    assert images(root) == []


def test_on_tmpfs_each_file_gets_a_loop_device(tmp_path: Path) -> None:
    place = tmp_path / "tmpfs"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", MountFlag(0), "size=32m")
    try:
        probe = probe_snapshotter("erofs", str(place / "root"))
        if not probe.usable:
            pytest.skip(probe.reason)
        assert probe.details["images"] == "loop devices"
        before = loops()
        with open_snapshotter("erofs", str(place / "root")) as snapshotter:
            unpack(snapshotter, "base", BASE)
            with seen(snapshotter, "base", tmp_path) as shown:
                assert (shown / "etc/two").read_bytes() == b"2"
                assert len(loops() - before) == 2
            remove_all(snapshotter)
        assert loops() <= before
    finally:
        umount(str(place), UnmountFlag.DETACH)


def loops() -> set[str]:
    """Return the loop devices that are over a file."""
    return {path.parent.parent.name for path in Path("/sys/block").glob("loop*/loop/backing_file")}


def test_what_the_probe_says(root: Path) -> None:
    probe = probe_snapshotter("erofs", str(root))
    assert Capability.OWN_APPLY in probe.capabilities
    assert probe.details["images"] in ("files", "loop devices")
