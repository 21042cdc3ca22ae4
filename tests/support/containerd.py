"""containerd's own tests of a snapshotter, as far as Debian has them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from support.golang import go_program

PACKAGE: Final = "golang-github-containerd-containerd-dev"
_SOURCE: Final = Path(__file__).resolve().parents[1] / "containerd/suite"
_LIBRARY: Final = Path("github.com/containerd/containerd/snapshots/testsuite")


def snapshotter_suite(factory: pytest.TempPathFactory) -> Path:
    """Return the compiled suite; skip the calling test where Go or containerd's code is missing."""
    return go_program(
        factory,
        _SOURCE,
        ("test", "-c", "suite_test.go"),
        _LIBRARY,
        PACKAGE,
        "`make test-containerd` as root installs it",
    )
