"""The state machine: over the reference and our backends, and that it finds what is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from support.broken_table import BROKEN

from snapcore.conformance import MemoryState, OpenRoot, Subject, open_memory
from snapcore.conformance.harness import CheckFailed
from snapcore.conformance.stateful import check_against_model
from snapcore.snapshots import Snapshotter, open_snapshotter

pytestmark = pytest.mark.usefixtures("census")
_BACKENDS = ("native", "overlay", "fuse")


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def _open_memory() -> OpenRoot:
    def open_root(root: str) -> Snapshotter:
        os.makedirs(root, exist_ok=True)
        return open_memory(states.setdefault(root, MemoryState()), root)

    states: dict[str, MemoryState] = {}
    return open_root


def test_the_reference_agrees_with_itself(tmp_path: Path) -> None:
    subject = Subject(_open_memory(), mountable=False, installed=False)
    check_against_model(subject, str(tmp_path), settings=_settings(10, 40))


@pytest.mark.parametrize("backend", _BACKENDS)
def test_a_backend_agrees_with_the_reference(backend: str, tmp_path: Path) -> None:
    subject = Subject(lambda root: open_snapshotter(backend, root))
    check_against_model(subject, str(tmp_path), settings=_settings(4, 30))


@pytest.mark.long
@pytest.mark.needs_root
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", _BACKENDS)
def test_a_backend_agrees_for_long_and_when_processes_die(backend: str, tmp_path: Path) -> None:
    subject = Subject(lambda root: open_snapshotter(backend, root))
    check_against_model(subject, str(tmp_path), settings=_settings(40, 50))
    check_against_model(subject, str(tmp_path), settings=_settings(8, 40), crashes=True)


@pytest.mark.parametrize(
    "name",
    [
        "keeps-key",
        "paths-replace-all",
        "hides-the-future",
        pytest.param("commits-views", marks=pytest.mark.long),
        pytest.param("removes-parents", marks=pytest.mark.long),
    ],
)
def test_what_is_broken_is_found(name: str, tmp_path: Path) -> None:
    broken = next(each for each in BROKEN if each.name == name)
    fresh: dict[str, OpenRoot] = {}

    def open_root(root: str) -> Snapshotter:
        return fresh.setdefault(root, broken.subject().open)(root)

    subject = Subject(open_root, mountable=False, installed=False)
    with pytest.raises(CheckFailed):
        check_against_model(subject, str(tmp_path), settings=_settings(200, 50))
