"""`python -m snapcore.service.check`: the exit code tells whether calls are taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.serve import running


def check(*arguments: str) -> tuple[int, str]:
    command = (sys.executable, "-m", "snapcore.service.check", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_the_exit_code_tells(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, _):
        assert check(str(service.socket)) == (0, "")
    code, said = check(str(service.socket))
    assert code == 1
    assert f"no service at '{service.socket}'" in said


def test_it_wants_a_socket() -> None:
    code, said = check()
    assert (code, said[:6]) == (2, "usage:")
