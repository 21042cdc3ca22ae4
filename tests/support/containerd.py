"""containerd's own programs and tests, as far as Debian has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from support.images import once, require_tools, session_directory

GOPATH: Final = Path("/usr/share/gocode")
PACKAGE: Final = "golang-github-containerd-containerd-dev"
_SOURCE: Final = Path(__file__).resolve().parents[1] / "containerd/suite"
_SUITE: Final = GOPATH / "src/github.com/containerd/containerd/snapshots/testsuite"


def snapshotter_suite(factory: pytest.TempPathFactory) -> Path:
    """Return the compiled suite; skip the calling test where Go or containerd's code is missing."""
    require_tools("go")
    if not _SUITE.is_dir():
        pytest.skip(f"not installed: {PACKAGE} (`make test-containerd` as root installs it)")
    return once(session_directory(factory) / "containerd-suite", _compile) / "suite"


def _compile(directory: Path) -> None:
    done = subprocess.run(
        ["go", "test", "-c", "-o", str(directory / "suite"), "suite_test.go"],
        cwd=_SOURCE,
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
