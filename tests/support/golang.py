"""Programs in Go, of Debian's compiler and Debian's packages of Go code."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from support.images import once, require_tools, session_directory

GOPATH: Final = Path("/usr/share/gocode")
_BY: Final = "`make setup` as root installs it"


def go_program(
    factory: pytest.TempPathFactory,
    source: Path,
    build: Sequence[str],
    library: Path,
    package: str,
    by: str = _BY,
) -> Path:
    """Return a program, compiled once a test session; skip the calling test where it cannot be.

    Args:
        factory: pytest's.
        source: the directory of its code, whose name and the program's file are unique.
        build: subcommand and flags of go(1), and the file.
        library: the directory below `GOPATH` without which it does not compile.
        package: Debian's, which has the library.
        by: what installs that.
    """
    require_tools("go")
    if not (GOPATH / "src" / library).is_dir():
        pytest.skip(f"not installed: {package} ({by})")
    place = session_directory(factory) / f"go-{source.name}"
    return once(place, partial(_compile, source, tuple(build))) / "program"


def _compile(source: Path, build: Sequence[str], directory: Path) -> None:
    command, *rest = build
    done = subprocess.run(
        ["go", command, "-o", str(directory / "program"), *rest],
        cwd=source,
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(GOPATH),
            "GOFLAGS": "",
            "GOCACHE": str(directory / "cache"),
            "CGO_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(directory / "cache")
