"""The overlay backend where lower directories are not named one by one: mount(2) alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.kernel import OLD_KERNELS, pretend

from snapcore.conformance import ALL_CHECKS, Harness
from snapcore.snapshots import open_snapshotter

pytestmark = pytest.mark.needs_root

_PLAIN = ("stories", "view_is_read_only", "mapped_ids", "opaque_root_hides_what_is_below")
CHECKS = {check.name: check for check in ALL_CHECKS}


@pytest.mark.parametrize(
    ("kernel", "name"),
    [(kernel, name) for kernel in OLD_KERNELS for name in _PLAIN]
    + [("no lowerdir+", "128_layers")]
    + [pytest.param("no lowerdir+", "500_layers", marks=pytest.mark.long)],
)
def test_overlay(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch, kernel: str, name: str
) -> None:
    pretend(monkeypatch, kernel)
    work = tmp_path / "work"
    work.mkdir()
    with open_snapshotter("overlay", str(tmp_path / "root")) as snapshotter:
        harness = Harness(snapshotter, str(work), lambda: snapshotter)
        assert not CHECKS[name].missing(harness)
        CHECKS[name].function(harness)
