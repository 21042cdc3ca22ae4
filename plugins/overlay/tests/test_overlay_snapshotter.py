"""The overlay snapshotter: forms of mounts, labels, options, marks and crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from snapcore import labels as label_keys
from snapcore.errors import FailedPrecondition, InvalidArgument
from snapcore.mount import temporary_mount
from snapcore.oci.whiteout import WhiteoutStyle
from snapcore.snapshots import Mounts, find_overlay_form, no_checkpoint, overlaystore
from snapcore_overlay import OverlaySnapshotter, Settings

pytestmark = pytest.mark.needs_root


@pytest.fixture
def overlay(tmp_path: Path, census: None) -> Iterator[OverlaySnapshotter]:
    snapshotter = OverlaySnapshotter(str(tmp_path / "root"))
    yield snapshotter
    snapshotter.close()


def _prepare(overlay: OverlaySnapshotter, key: str, parent: str = "") -> Mounts:
    return overlay.prepare(key, parent, {}, no_checkpoint)


def _layer(
    overlay: OverlaySnapshotter,
    name: str,
    parent: str = "",
    fill: Callable[[str], object] = lambda root: None,
) -> None:
    _prepare(overlay, "layer", parent)
    fill(overlay.target("layer").directory)
    overlay.commit(name, "layer", {}, "", no_checkpoint)


def _directories(root: Path) -> list[str]:
    return sorted(os.listdir(root / "root" / "snapshots"))


def test_directories_and_their_modes(overlay: OverlaySnapshotter, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    _prepare(overlay, "key")
    os.umask(umask)
    modes = {
        path: oct(os.stat(tmp_path / "root" / path).st_mode & 0o7777)
        for path in ("", "snapshots/1", "snapshots/1/fs", "snapshots/1/work")
    }
    assert modes == {
        "": "0o700",
        "snapshots/1": "0o700",
        "snapshots/1/fs": "0o755",
        "snapshots/1/work": "0o711",
    }


def test_mounts_of_every_kind(overlay: OverlaySnapshotter, tmp_path: Path) -> None:
    top = str(tmp_path / "root" / "snapshots")
    _layer(overlay, "1")
    _layer(overlay, "2", "1")
    (empty,) = _prepare(overlay, "empty")
    (active,) = _prepare(overlay, "active", "2")
    (view1,) = overlay.view("view 1", "1", {}, no_checkpoint)
    (view2,) = overlay.view("view 2", "2", {}, no_checkpoint)
    assert (empty.type, empty.source, empty.options) == ("bind", f"{top}/3/fs", ("rbind", "rw"))
    assert (view1.type, view1.source, view1.options) == ("bind", f"{top}/1/fs", ("rbind", "ro"))
    assert active.type == view2.type == "overlay"
    lowers = f"{top}/2/fs:{top}/1/fs"
    assert (active.option("lowerdir"), view2.option("lowerdir")) == (lowers, lowers)
    assert active.option("upperdir") == f"{top}/4/fs"
    assert active.option("workdir") == f"{top}/4/work"
    assert view2.option("upperdir") is view2.option("workdir") is None
    for option in ("redirect_dir=nofollow", "metacopy=off", "index=off"):
        assert option in active.options
        assert option in view2.options
    assert "ro" in view2.options


def test_target_of_a_layer(overlay: OverlaySnapshotter, tmp_path: Path) -> None:
    top = str(tmp_path / "root" / "snapshots")
    _layer(overlay, "1")
    _layer(overlay, "2", "1")
    _prepare(overlay, "key", "2")
    target = overlay.target("key")
    assert (target.directory, target.lowers) == (f"{top}/3/fs", (f"{top}/2/fs", f"{top}/1/fs"))
    assert target.whiteouts is WhiteoutStyle.OVERLAY
    assert target.mounts == ()


def test_the_upperdir_label_is_made_up(overlay: OverlaySnapshotter, tmp_path: Path) -> None:
    key = label_keys.OVERLAY_UPPERDIR
    overlay.prepare("key", "", {key: "/forged", "mine": "1"}, no_checkpoint)
    info = overlay.stat("key")
    path = str(tmp_path / "root/snapshots/1/fs")
    assert info.labels == {key: path, "mine": "1"}
    assert overlay.walk((f'labels."{key}"=="{path}"',), "", 10).infos == (info,)
    updated = overlay.update(replace(info, labels={**info.labels, "mine": "2"}), ())
    assert updated.labels == {key: path, "mine": "2"}
    with pytest.raises(InvalidArgument, match="made up"):
        overlay.update(replace(info, labels={key: "/forged"}), (f"labels.{key}",))
    overlay.close()
    plain = OverlaySnapshotter(str(tmp_path / "root"), Settings(upperdir_label=False))
    assert plain.stat("key").labels == {"mine": "2"}
    plain.close()


def test_more_layers_than_options_can_name_are_refused(
    overlay: OverlaySnapshotter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _layer(overlay, "1")
    _layer(overlay, "2", "1")
    _prepare(overlay, "key", "2")
    # Room for everything but the two lower directories, however short they are written.
    (mount,) = overlay.mounts("key")
    others = [option for option in mount.options if not option.startswith("lowerdir=")]
    monkeypatch.setattr(overlaystore, "_MAX_OPTIONS", len(",".join(["ro", *others[:3]])))
    before = _directories(tmp_path)
    _prepare(overlay, "one by one", "2")
    overlay.remove("one by one", no_checkpoint)
    overlay.cleanup(no_checkpoint)
    form = replace(find_overlay_form(str(tmp_path)), one_by_one=False)
    classic = OverlaySnapshotter(str(tmp_path / "root"), form=form)
    asked = OverlaySnapshotter(str(tmp_path / "root"), Settings(classic_mounts=True))
    for each in (classic, asked):
        for method in (each.prepare, each.view):
            with pytest.raises(FailedPrecondition, match=r"has 2 layers, which take \d+ bytes"):
                method("other", "2", {}, no_checkpoint)
        each.close()
    monkeypatch.setattr(overlaystore, "MAX_LOWERS", 1)
    with pytest.raises(FailedPrecondition, match="'other' has 2 layers, and overlayfs takes 1"):
        _prepare(overlay, "other", "2")
    assert _directories(tmp_path) == before


def test_own_mount_options_come_after_ours(tmp_path: Path, census: None) -> None:
    overlay = OverlaySnapshotter(str(tmp_path / "root"), Settings(mount_options=("index=on",)))
    _layer(overlay, "1")
    (mount,) = _prepare(overlay, "key", "1")
    assert "index=on" in mount.options
    assert "index=off" not in mount.options
    overlay.close()


def test_the_selinux_label_is_in_every_overlay_mount_in_quotes(
    tmp_path: Path, census: None
) -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    form = find_overlay_form(str(tmp_path))
    # What the probe finds on a kernel with SELinux.
    form = replace(form, options=(*form.options, f'context="{label}"'))
    overlay = OverlaySnapshotter(str(tmp_path / "root"), Settings(selinux_context=label), form)
    _layer(overlay, "1")
    _layer(overlay, "2", "1")
    for mounts in (_prepare(overlay, "key", "2"), overlay.view("view", "2", {}, no_checkpoint)):
        assert mounts[0].option("context") == f'"{label}"'
    overlay.close()


def test_an_opaque_mark_can_be_taken_back_before_commit(overlay: OverlaySnapshotter) -> None:
    _layer(overlay, "1")
    _prepare(overlay, "key", "1")
    root = overlay.target("key").directory
    os.setxattr(root, "trusted.overlay.opaque", b"y")
    with pytest.raises(InvalidArgument):
        overlay.commit("2", "key", {"": "bad"}, "", no_checkpoint)
    os.removexattr(root, "trusted.overlay.opaque")
    overlay.commit("2", "key", {}, "", no_checkpoint)
    _prepare(overlay, "child", "2")
    assert len(overlay.target("child").lowers) == 2


def test_a_view_of_an_opaque_layer_is_a_bind(overlay: OverlaySnapshotter) -> None:
    def opaque(root: str) -> None:
        os.setxattr(root, "trusted.overlay.opaque", b"y")

    _layer(overlay, "1")
    _layer(overlay, "2", "1", opaque)
    (mount,) = overlay.view("view", "2", {}, no_checkpoint)
    assert (mount.type, mount.source) == (
        "bind",
        overlay.stat("2").labels[label_keys.OVERLAY_UPPERDIR],
    )


def test_root_xattrs_come_from_the_parent_but_no_marks(overlay: OverlaySnapshotter) -> None:
    def mark(root: str) -> None:
        os.setxattr(root, "user.kept", b"1")
        os.setxattr(root, "trusted.overlay.opaque", b"y")

    _layer(overlay, "1", "", mark)
    _prepare(overlay, "key", "1")
    root = overlay.target("key").directory
    assert os.listxattr(root) == ["user.kept"]


def test_lower_redirects_are_not_followed(overlay: OverlaySnapshotter) -> None:
    def plant(root: str) -> None:
        os.mkdir(os.path.join(root, "open"))
        os.setxattr(os.path.join(root, "open"), "trusted.overlay.redirect", b"/secret")

    _layer(overlay, "1", "", lambda root: os.makedirs(os.path.join(root, "secret/inside"), 0o700))
    _layer(overlay, "2", "1", plant)
    with temporary_mount(overlay.view("view", "2", {}, no_checkpoint)) as root:
        # Either nothing or an error, but never the other directory's entries.
        try:
            names = os.listdir(os.path.join(root, "open"))
        except OSError:
            names = []
    assert names == []


def test_removal_is_finished_by_cleanup(overlay: OverlaySnapshotter, tmp_path: Path) -> None:
    _layer(overlay, "1")
    with temporary_mount(_prepare(overlay, "key", "1")) as root, open(f"{root}/file", "wb") as f:
        f.write(b"x" * 5000)
    overlay.remove("key", no_checkpoint)
    assert _directories(tmp_path) == ["1", "rm-2"]
    assert overlay.cleanup(no_checkpoint).size >= 5000
    assert _directories(tmp_path) == ["1"]


def test_sync_remove_deletes_at_once(tmp_path: Path, census: None) -> None:
    overlay = OverlaySnapshotter(str(tmp_path / "root"), Settings(sync_remove=True))
    _prepare(overlay, "key")
    overlay.remove("key", no_checkpoint)
    assert _directories(tmp_path) == []
    overlay.close()


_CHILD = """
import os, signal, sys
from snapcore.snapshots import MetaStore, SnapshotDirs
from snapcore_overlay import OverlaySnapshotter

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

root, owner, method = sys.argv[1:]
setattr({"MetaStore": MetaStore, "SnapshotDirs": SnapshotDirs}[owner], method, die)
overlay = OverlaySnapshotter(root)
if method == "retire":
    overlay.remove("doomed", lambda: None)
else:
    overlay.prepare("key", "base", {}, lambda: None)
"""


@pytest.mark.parametrize(
    ("owner", "method", "left"),
    [
        ("SnapshotDirs", "create", (0, 1)),
        ("SnapshotDirs", "publish", (1, 1)),
        ("MetaStore", "record", (1, 1)),
        ("SnapshotDirs", "retire", (1, 0)),
    ],
)
def test_a_crash_between_steps_leaves_what_cleanup_reclaims(
    overlay: OverlaySnapshotter, tmp_path: Path, owner: str, method: str, left: tuple[int, int]
) -> None:
    _layer(overlay, "base")
    _prepare(overlay, "doomed")
    overlay.remove("doomed", no_checkpoint) if method != "retire" else None
    overlay.cleanup(no_checkpoint)
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "root"), owner, method]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    reclaimed = overlay.cleanup(no_checkpoint)
    assert (reclaimed.directories, reclaimed.reservations) == left
    assert _directories(tmp_path) == ["1"]
    assert [info.name for info in overlay.walk((), "", 10).infos] == ["base"]
    _prepare(overlay, "key", "base")


def test_labels_that_snapshots_are_rebased_by_change_no_mounts(
    overlay: OverlaySnapshotter,
) -> None:
    labels = {label_keys.SNAPSHOT_PARENT_CHAIN_ID: "sha256:" + "0" * 64}
    (mount,) = overlay.prepare("key", "", labels, no_checkpoint)
    assert mount.type == "bind"
    target = overlay.target("key")
    assert (target.directory, target.lowers) == (mount.source, ())
    assert target.whiteouts is WhiteoutStyle.OVERLAY
