"""Every check over every backend, opened as a node opens it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapcore.conformance import ALL_CHECKS, Check, Harness
from snapcore.snapshots import Snapshotter, no_checkpoint, open_snapshotter, probe_snapshotter
from snapcore.snapshots.tree import remove_tree

BACKENDS = ("fuse", "native", "overlay")


@pytest.fixture
def opener(
    request: pytest.FixtureRequest, tmp_path: Path, census: None
) -> Iterator[Callable[[], Snapshotter]]:
    """Open the backend on one root, as often as wanted; close all of it at the end."""
    probe = probe_snapshotter(request.param, str(tmp_path / "root"))
    if not probe.usable:
        pytest.skip(probe.reason)
    opened: list[Snapshotter] = []

    def open_one() -> Snapshotter:
        opened.append(open_snapshotter(request.param, str(tmp_path / "root")))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    # Trees that are too deep for pytest's own clean-up.
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    remove_tree(top, "root", no_checkpoint)
    os.close(top)


def test_names_of_checks_are_unique() -> None:
    names = [check.name for check in ALL_CHECKS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, id=c.name, marks=[pytest.mark.long] * c.long) for c in ALL_CHECKS],
)
@pytest.mark.parametrize("opener", BACKENDS, indirect=True)
def test_backend(opener: Callable[[], Snapshotter], check: Check, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    harness = Harness(opener(), str(work), opener, installed=True)
    reason = check.missing(harness)
    if reason:
        pytest.skip(reason)
    check.function(harness)
