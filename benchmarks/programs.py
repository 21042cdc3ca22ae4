"""Running other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

_PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return where a program is, looking where only root's PATH looks too; None if nowhere."""
    return shutil.which(program, path=_PATH)


def run(
    *command: str, stdin: int | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return what it prints.

    Args:
        command: program and arguments.
        stdin: descriptor of its input; nothing if None.
        environment: variables besides the inherited ones.

    Raises:
        SystemExit: it is missing or fails; with what it said.
    """
    if find(command[0]) is None:
        raise SystemExit(f"{command[0]} is not installed; `make setup` as root installs it")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {}), "PATH": _PATH},
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise SystemExit(f"{' '.join(command)} failed: {said}")
    return done.stdout


def say(text: str) -> None:
    """Tell the person at the terminal how far things are."""
    print(text, file=sys.stderr, flush=True)
