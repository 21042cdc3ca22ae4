"""Volatile overlays: only where asked for, and nothing of them stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition, NotFound
from snapcore.linux import MountFlag, fsconfig_flag
from snapcore.linux import mount as sys_mount
from snapcore.mount import Mount, mount_table, temporary_mount

pytestmark = pytest.mark.needs_root


@pytest.fixture
def overlay(tmp_path: Path, census: None) -> Mount:
    names = ("lower", "upper", "work")
    for name in names:
        (tmp_path / name).mkdir()
    return Mount(
        "overlay", "overlay", options=tuple(f"{name}dir={tmp_path / name}" for name in names)
    )


def _is_volatile(target: str) -> bool:
    (entry,) = [entry for entry in mount_table() if entry.target == target]
    return not {"volatile", "fsync=volatile"}.isdisjoint(entry.super_options)


def test_a_volatile_mount_can_be_repeated_and_is_so_no_longer(
    overlay: Mount, tmp_path: Path
) -> None:
    for number in range(2):
        with temporary_mount([overlay], str(tmp_path), volatile=True) as root:
            assert _is_volatile(root)
            assert os.path.exists(tmp_path / "work" / "work" / "incompat/volatile/dirty")
            assert len(os.listdir(root)) == number
            (Path(root) / str(number)).touch()
    with temporary_mount([overlay], str(tmp_path)) as root:
        assert not _is_volatile(root)
        assert sorted(os.listdir(root)) == ["0", "1"]
    assert "volatile" not in overlay.options


def test_an_error_in_the_block_takes_the_mark_away_too(overlay: Mount, tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        temporary_mount([overlay], str(tmp_path), volatile=True),
    ):
        raise ZeroDivisionError
    assert not os.path.exists(tmp_path / "work" / "work" / "incompat")


def test_a_mark_that_cannot_be_taken_away_is_an_error_of_ours(
    overlay: Mount, tmp_path: Path
) -> None:
    with (
        pytest.raises(FailedPrecondition, match="mark of a volatile overlay"),
        temporary_mount([overlay], str(tmp_path), volatile=True),
    ):
        (tmp_path / "work" / "work" / "incompat/volatile/somebody else's").touch()


def test_what_writes_nothing_is_left_as_it_is(overlay: Mount, tmp_path: Path) -> None:
    lowers = f"lowerdir={tmp_path / 'lower'}:{tmp_path / 'upper'}"
    bind = Mount("bind", str(tmp_path / "lower"), options=("rbind", "rw"))
    for given in (bind, Mount("overlay", "overlay", options=(lowers,))):
        with temporary_mount([given], str(tmp_path), volatile=True) as root:
            assert not _is_volatile(root)


def test_kernels_that_do_not_know_it_get_the_plain_mount(
    overlay: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flag(context: int, key: str) -> None:
        if key == "volatile":
            raise OSError(errno.EINVAL, "unknown")
        fsconfig_flag(context, key)

    def mount(source: str, target: str, fstype: str, flags: MountFlag, data: str) -> None:
        if "volatile" in data:
            raise OSError(errno.EINVAL, "unknown")
        sys_mount(source, target, fstype, flags, data)

    monkeypatch.setattr("snapcore.mount.overlay.fsconfig_flag", flag)
    monkeypatch.setattr("snapcore.mount.perform.sys_mount", mount)
    with temporary_mount([overlay], str(tmp_path), volatile=True) as root:
        assert not _is_volatile(root)


def test_what_is_wrong_otherwise_is_said_once(overlay: Mount, tmp_path: Path) -> None:
    with (
        pytest.raises(FailedPrecondition, match="nonsense"),
        temporary_mount(
            [Mount("overlay", "overlay", options=(*overlay.options, "nonsense"))],
            str(tmp_path),
            volatile=True,
        ),
    ):
        pass
    os.rmdir(tmp_path / "lower")
    with pytest.raises(NotFound), temporary_mount([overlay], str(tmp_path), volatile=True):
        pass
