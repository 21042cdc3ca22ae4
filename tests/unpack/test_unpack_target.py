"""Opening the place where a layer is applied, and what lies below it, on any kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.kernel import OLD_KERNELS, pretend

from snapcore.mount import Mount, mount_table
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import LayerTarget
from snapcore.unpack.target import open_destination

pytestmark = pytest.mark.needs_root


def _directories(top: Path, *names: str) -> list[str]:
    for name in names:
        (top / name / f"from {name}").mkdir(parents=True)
    return [str(top / name) for name in names]


@pytest.mark.parametrize("kernel", ["", *OLD_KERNELS])
@pytest.mark.parametrize("style", [WhiteoutStyle.OVERLAY, WhiteoutStyle.OVERLAY_USER])
def test_the_layers_below_are_merged_and_mounted_nowhere(
    tmp_path: Path,
    census: None,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    style: WhiteoutStyle,
) -> None:
    upper, *lowers = _directories(tmp_path, "upper", "near", "far")
    (tmp_path / "state").mkdir()
    if kernel:
        pretend(monkeypatch, kernel)
    target = LayerTarget(upper, tuple(lowers), style)
    before = len(list(mount_table()))
    with open_destination(target, str(tmp_path / "state"), base=False) as destination:
        assert os.listdir(destination.directory) == ["from upper"]
        assert destination.lower is not None
        assert sorted(os.listdir(destination.lower)) == ["from far", "from near"]
        assert len(list(mount_table())) == before
    assert os.listdir(tmp_path / "state") == []


def test_a_target_that_must_be_mounted_is_volatile_and_can_be_mounted_again(
    tmp_path: Path, census: None
) -> None:
    upper, lower = _directories(tmp_path, "upper", "lower")
    for name in ("work", "state"):
        (tmp_path / name).mkdir()
    overlay = Mount(
        "overlay",
        "overlay",
        options=(f"lowerdir={lower}", f"upperdir={upper}", f"workdir={tmp_path / 'work'}"),
    )
    target = LayerTarget("", mounts=(overlay,))
    for _ in range(2):
        with open_destination(target, str(tmp_path / "state"), base=False) as destination:
            assert sorted(os.listdir(destination.directory)) == ["from lower", "from upper"]
            assert os.path.exists(tmp_path / "work" / "work" / "incompat/volatile")
    assert os.listdir(tmp_path / "state") == []
