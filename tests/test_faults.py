"""Numbered points at which an armed process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from support.cli import child_environment

from snapcore.faults import VARIABLE, WIDTH

_TWO: Final = """
import os, sys
from snapcore.faults import arm_as_told, reach
arm_as_told(os.environ)
os.mkdir("a")
child = os.fork()
if child == 0:
    reach("tried", "in the child")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os.rename("a", "b")
"""


def run(place: Path, number: int) -> subprocess.CompletedProcess[str]:
    told = {VARIABLE: f"{number}:{place / 'points'}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", _TWO],
        cwd=place,
        env=child_environment(told),
        capture_output=True,
        text=True,
        check=False,
    )


def events(place: Path) -> list[str]:
    lines = (place / "points").read_bytes()
    assert len(lines) % WIDTH == 0
    return [line.split()[1] for line in lines.decode().splitlines()]


def test_points_are_counted_over_all_processes(tmp_path: Path) -> None:
    done = run(tmp_path, 0)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert events(tmp_path) == ["os.mkdir", "snapcore.tried", "os.rename"]
    assert os.listdir(tmp_path / "b") == []


@pytest.mark.parametrize(
    ("number", "code", "said", "left"),
    [(1, -signal.SIGKILL, "", []), (2, 0, "-9\n", ["b"]), (3, -signal.SIGKILL, "0\n", ["a"])],
)
def test_who_reaches_the_point_dies_before_the_change(
    tmp_path: Path, number: int, code: int, said: str, left: list[str]
) -> None:
    done = run(tmp_path, number)
    assert (done.returncode, done.stdout) == (code, said), done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted([*left, "points"])


def test_nothing_is_counted_unless_it_is_told(tmp_path: Path) -> None:
    environment = child_environment()
    subprocess.run([sys.executable, "-c", _TWO], cwd=tmp_path, env=environment, check=True)
    assert os.listdir(tmp_path) == ["b"]
