"""The suite as a whole: names, its version, one check called by hand."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from snapcore.conformance import (
    ALL_CHECKS,
    SUITE_VERSION,
    MemoryState,
    Subject,
    open_memory,
    started,
)
from snapcore.conformance.checks.refusals import check_unknown_keys
from snapcore.snapshots import CONTRACT_VERSION


def test_names_of_checks_are_unique_and_each_says_what_it_checks() -> None:
    names = [check.name for check in ALL_CHECKS]
    assert len(names) == len(set(names))
    assert [check.name for check in ALL_CHECKS if not inspect.getdoc(check.function)] == []


def test_the_suites_version_begins_with_the_contracts() -> None:
    contract, _, edition = SUITE_VERSION.partition(".")
    assert int(contract) == CONTRACT_VERSION
    assert int(edition) > 0


def test_a_check_is_a_function_that_anybody_can_call(tmp_path: Path) -> None:
    state = MemoryState()
    with started(Subject(lambda root: open_memory(state, root)), str(tmp_path)) as harness:
        check_unknown_keys(harness)
    assert sorted(state.snapshots) == ["active", "committed"]


def test_what_needs_no_root_is_not_left_out_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "snapcore.conformance.harness.effective_capabilities", lambda: frozenset[int]()
    )
    state = MemoryState()
    with started(Subject(lambda root: open_memory(state, root)), str(tmp_path)) as harness:
        reasons = {check.name: check.missing(harness) for check in ALL_CHECKS}
    assert reasons["unknown_keys"] == ""
    assert reasons["stories"] == "needs the privilege to mount"
