"""Calls that the kernel must refuse, and scripts that run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(*numbers: int, path: str | bytes | None = None) -> Iterator[None]:
    """Fail unless the block raises OSError with one of these numbers, and with this file name.

    Args:
        numbers: of errno(3).
        path: what the error must name; None for whatever.
    """
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        yield
    assert caught.value.errno in numbers, caught.value
    assert path is None or caught.value.filename == path


def in_child(
    script: str, *arguments: str, inside: tuple[str, ...] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script that finds all of `snapcore.linux` imported.

    Args:
        script: Python source.
        arguments: its `sys.argv[1:]`.
        inside: a command that runs it, such as `unshare`.
        check: fail unless it exits with 0, showing what it wrote.
    """
    source = f"import os, sys\nfrom snapcore.linux import *\n{script}"
    done = subprocess.run(
        [*inside, sys.executable, "-c", source, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or done.returncode == 0, done.stderr
    return done
