"""The checks themselves: each fails, and with the right words, where a snapshotter is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broken import Broken, plugin_installed
from support.broken_state import let_go
from support.broken_table import BROKEN

from snapcore.conformance import ALL_CHECKS, Check, Outcome
from snapcore.conformance.run import run_check

CHECKS = {check.name: check for check in ALL_CHECKS}


def _cases() -> Iterator[object]:
    for broken in BROKEN:
        for name, words in broken.caught_by.items():
            check = CHECKS[name]
            marks = [pytest.mark.needs_root] * broken.mounts + [pytest.mark.long] * check.long
            yield pytest.param(broken, check, words, id=f"{broken.name}-{name}", marks=marks)


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugin_installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture
def leaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait less for what will never end; end it afterwards."""
    monkeypatch.setattr("snapcore.conformance.checks.leaks._PATIENCE", 0.1)
    yield
    let_go()


def test_there_are_many_and_each_has_its_own_name() -> None:
    names = [broken.name for broken in BROKEN]
    assert len(names) == len(set(names)) >= 100
    assert {"remove-missing", "usage-of-whole-tree", "view-writable-through-a-bind"} <= set(names)


def test_every_check_catches_some_broken_snapshotter() -> None:
    named = {name for broken in BROKEN for name in broken.caught_by}
    assert named == CHECKS.keys()
    assert all(words for broken in BROKEN for words in broken.caught_by.values())


@pytest.mark.parametrize(("broken", "check", "words"), list(_cases()))
def test_a_broken_snapshotter_is_caught(
    broken: Broken, check: Check, words: str, tmp_path: Path, census: None, leaking: None
) -> None:
    result = run_check(check, broken.subject(), str(tmp_path))
    assert (result.outcome, words) == (Outcome.FAILED, words if words in result.reason else result)
