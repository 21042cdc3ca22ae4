"""Overlays through both interfaces: what each takes, and what a refusal says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.kernel import OLD_KERNELS, pretend

from snapcore.errors import FailedPrecondition, SnapcoreError
from snapcore.linux import MountAttr, MountFlag
from snapcore.linux import mount as sys_mount
from snapcore.mount import Mount, make_overlay, takes_lowers_one_by_one, temporary_mount

pytestmark = pytest.mark.needs_root


def _lowers(top: Path, count: int) -> list[str]:
    lowers = []
    for number in range(count):
        lower = top / str(number)
        (lower / f"from {number}").mkdir(parents=True)
        lowers.append(str(lower))
    return lowers


def _overlay(lowers: list[str], *options: str) -> Mount:
    return Mount("overlay", "overlay", options=(*options, "lowerdir=" + ":".join(lowers)))


@pytest.mark.parametrize("kernel", ["", *OLD_KERNELS])
def test_an_overlay_is_mounted_whatever_the_kernel_has(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    lowers = _lowers(tmp_path, 2)
    assert takes_lowers_one_by_one(lowers, ("index=off",))
    if kernel:
        pretend(monkeypatch, kernel)
        assert not takes_lowers_one_by_one(lowers, ("index=off",))
    with temporary_mount([_overlay(lowers, "ro", "noexec", "index=off")], str(tmp_path)) as root:
        assert sorted(os.listdir(root)) == ["from 0", "from 1"]
        assert os.statvfs(root).f_flag & os.ST_NOEXEC
        assert os.statvfs(root).f_flag & os.ST_RDONLY


@pytest.mark.parametrize("kernel", OLD_KERNELS)
def test_older_kernels_take_one_page_and_the_refusal_says_so(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    pretend(monkeypatch, kernel)
    # Relative to their common directory, 40 of them fit into a page and 60 do not.
    names = []
    for number in range(60):
        place = tmp_path / f"{number:080}"
        (place / f"from {number}").mkdir(parents=True)
        names.append(str(place))
    with temporary_mount([_overlay(names[:40])], str(tmp_path)) as root:
        assert len(os.listdir(root)) == 40
    with (
        pytest.raises(FailedPrecondition, match=r"take \d+ bytes, .*mount\(2\) takes 4095"),
        temporary_mount([_overlay(names)], str(tmp_path)),
    ):
        pass


def test_names_beyond_255_bytes_go_the_older_way(tmp_path: Path, census: None) -> None:
    top = tmp_path / ("x" * 200) / ("y" * 100)
    lowers = _lowers(top, 3)
    assert not takes_lowers_one_by_one(lowers, ())
    with temporary_mount([_overlay(lowers)], str(tmp_path)) as root:
        assert len(os.listdir(root)) == 3


@pytest.mark.parametrize("option", ["nonsense", "nonsense=1"])
def test_a_refusal_has_the_kernels_own_words(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    overlay = _overlay(_lowers(tmp_path, 2), option)
    for kernel, says in (("", "Unknown parameter 'nonsense'"), ("no lowerdir+", "Invalid arg")):
        if kernel:
            pretend(monkeypatch, kernel)
        with pytest.raises(FailedPrecondition) as caught, temporary_mount([overlay], str(tmp_path)):
            pass
        assert says in str(caught.value)
        assert "lowerdir+" not in str(caught.value)


def test_quotes_keep_commas_together_and_are_not_part_of_a_value(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = 'context="system_u:object_r:container_file_t:s0:c1,c2"'
    seen: list[tuple[str, str]] = []

    def string(context: int, key: str, value: str) -> None:
        seen.append((key, value))

    def mount(source: str, target: str, fstype: str, flags: MountFlag, data: str) -> None:
        seen.append(("data", data))
        sys_mount(source, target, fstype, flags, data)

    lowers = _lowers(tmp_path, 2)
    monkeypatch.setattr("snapcore.mount.overlay.fsconfig_string", string)
    monkeypatch.setattr("snapcore.mount.perform.sys_mount", mount)
    with pytest.raises(SnapcoreError), temporary_mount([_overlay(lowers, label)], str(tmp_path)):
        pass
    assert ("context", label.split('"')[1]) in seen
    assert seen[-1] == ("data", f"{label},lowerdir={':'.join(lowers)}")


def test_an_overlay_that_is_mounted_nowhere_ends_with_its_descriptor(
    tmp_path: Path, census: None
) -> None:
    mounted = make_overlay(_lowers(tmp_path, 2), (), MountAttr.RDONLY)
    inside = os.open(".", os.O_RDONLY, dir_fd=mounted)
    assert sorted(os.listdir(inside)) == ["from 0", "from 1"]
    os.close(inside)
    os.close(mounted)
