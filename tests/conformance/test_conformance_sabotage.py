"""The checks themselves: a snapshotter that is broken in one way is caught by the right check."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.broken import BROKEN, Broken

from snapcore.conformance import ALL_CHECKS, Harness
from snapcore.errors import SnapcoreError

CHECKS = {check.name: check for check in ALL_CHECKS}


def test_there_are_many_and_each_has_its_own_name() -> None:
    names = [broken.name for broken in BROKEN]
    assert len(names) == len(set(names)) >= 25
    assert {"remove-missing", "usage-of-whole-tree", "view-writable-through-a-bind"} <= set(names)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        pytest.param(
            broken,
            name,
            id=f"{broken.name}-{name}",
            marks=[pytest.mark.needs_root] * broken.mounts,
        )
        for broken in BROKEN
        for name in broken.caught_by
    ],
)
def test_a_broken_snapshotter_is_caught(broken: Broken, name: str, tmp_path: Path) -> None:
    work, root = tmp_path / "work", tmp_path / "root"
    work.mkdir()
    root.mkdir()
    with broken.start(str(root)) as open_one:
        harness = Harness(open_one(), str(work), open_one, supply=broken.supply)
        with pytest.raises((AssertionError, SnapcoreError, OSError)):
            CHECKS[name].function(harness)
