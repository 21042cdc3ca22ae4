"""The reserve of space for removals."""

from __future__ import annotations

import os
from pathlib import Path

from snapcore.node.reserve import SIZE, Reserve


def _held(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (root / "reserve").iterdir())


def test_what_a_killed_process_left_out_is_made_up_for(tmp_path: Path) -> None:
    reserve = Reserve(str(tmp_path))
    reserve.refill()
    assert _held(tmp_path) >= SIZE
    for number in range(50, 128):
        (tmp_path / "reserve" / str(number)).unlink()
    os.truncate(tmp_path / "reserve" / "49", 0)
    reserve.refill()
    assert _held(tmp_path) >= SIZE
    assert os.listdir(tmp_path) == ["reserve"]
