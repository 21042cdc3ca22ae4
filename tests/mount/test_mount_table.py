"""Which mounts show a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapcore.linux import MountFlag, umount
from snapcore.linux import mount as sys_mount
from snapcore.mount import Mount, mount_all, mounts_showing, mounts_using, unmount

pytestmark = pytest.mark.needs_root


@pytest.fixture
def place(tmp_path: Path, census: None) -> Path:
    for name in ("store/1/fs/in", "store/2/fs", "store/up", "store/work", "mnt"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def shown(directory: Path) -> list[str]:
    return [entry.target for entry in mounts_showing(str(directory))]


@pytest.mark.parametrize(("source", "seen"), [("1/fs", True), ("1/fs/in", True), ("2/fs", False)])
def test_bind_mounts(place: Path, source: str, seen: bool) -> None:
    assert shown(place / "store/1/fs") == []
    mount_all([Mount("bind", str(place / "store" / source), options=("rbind", "ro"))],
              str(place / "mnt"), str(place))  # fmt: skip
    assert shown(place / "store/1/fs") == [str(place / "mnt")] * seen
    unmount(str(place / "mnt"))


def test_a_bind_mount_of_what_holds_it_is_no_snapshots(place: Path) -> None:
    sys_mount(str(place / "store"), str(place / "mnt"), "", MountFlag.BIND, "")
    assert shown(place / "store/1/fs") == []
    umount(str(place / "mnt"))


@pytest.mark.parametrize("below", ["", "store"])
def test_overlays(place: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"{place}/store/" if not below else ""
    monkeypatch.chdir(place / below)
    data = f"lowerdir={base}2/fs:{base}1/fs,upperdir={base}up,workdir={base}work"
    sys_mount("overlay", str(place / "mnt"), "overlay", MountFlag(0), data)
    for layer in ("1/fs", "2/fs", "up"):
        assert shown(place / "store" / layer) == [str(place / "mnt")]
    assert shown(place / "store/1/fs/in") == []
    umount(str(place / "mnt"))


def test_a_file_system_of_its_own(place: Path) -> None:
    sys_mount("tmpfs", str(place / "store/2"), "tmpfs", MountFlag(0), "")
    (place / "store/2/fs").mkdir()
    sys_mount(str(place / "store/2/fs"), str(place / "mnt"), "", MountFlag.BIND, "")
    assert shown(place / "store/2/fs") == [str(place / "mnt")]
    assert shown(place / "store/1/fs") == []
    umount(str(place / "mnt"))
    umount(str(place / "store/2"))


def test_mounts_that_a_directory_is_for(place: Path) -> None:
    store, mnt, inner = (str(place / name) for name in ("store", "mnt", "store/2/fs"))
    overlay = Mount(
        "overlay",
        "overlay",
        options=(f"lowerdir={store}/1/fs", f"upperdir={store}/up", f"workdir={store}/work"),
    )
    for mounts, target in (
        ([overlay], mnt),
        ([Mount("bind", f"{store}/1/fs", options=("rbind", "ro"))], mnt),
        ([Mount("tmpfs", "tmpfs")], inner),
    ):
        assert mounts_using(store) == ()
        mount_all(mounts, target, str(place))
        assert [entry.target for entry in mounts_using(store)] == [target]
        unmount(target)
