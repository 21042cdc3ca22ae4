"""The benchmark's report: ratios to containerd, who is missing, and whose trees agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from benchmarks.measure import Run
from benchmarks.report import Host, Measured, Series, markdown
from benchmarks.tree import Tree

HOST: Final = Host("Linux 6.18", "Quick 9000", 2, 24000, 0.25)
SAME: Final = Tree(100, 1_000_000, "a" * 64)
OTHER: Final = Tree(101, 1_000_000, "b" * 64)


def a_run(name: str, seconds: float, tree: Tree | None = None) -> Run:
    return Run(name, seconds, 2 * seconds, 50.0 + seconds, 300.0, 0.5, tree)


def series(runs: Sequence[Run], missing: Mapping[str, str] | None = None) -> Series:
    names = dict.fromkeys(run.name for run in runs)
    sides = [Measured(name, "1.0", "zlib", "", compared=name != "tar") for name in names]
    when = "2026-11-24T12:00:00+00:00"
    return Series(when, 61.4, HOST, "full: 9 layers", sides, dict(missing or {}), runs)


def rows(table: str) -> dict[str, list[str]]:
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:2] == "| "]
    return {line[0]: line for line in cells}


def test_medians_are_compared_with_containerd_wherever_it_stands() -> None:
    runs = [a_run("snapcore", s) for s in (2.0, 1.0, 9.0)]
    runs += [a_run("containerd", s) for s in (4.0, 8.0, 6.0)]
    table = rows(markdown(series(runs)))
    assert table["snapcore"][3:8] == ["2.0 1.0 9.0", "2.00", "0.33", "4.0", "59"]
    assert table["containerd"][3:6] == ["4.0 8.0 6.0", "6.00", "1.00"]


def test_without_containerd_the_first_side_is_the_measure() -> None:
    table = rows(markdown(series([a_run("umoci", 4.0), a_run("snapcore", 1.0)])))
    assert (table["umoci"][5], table["snapcore"][5]) == ("1.00", "0.25")


def test_who_is_missing_stands_below_with_the_reason() -> None:
    text = markdown(series([a_run("tar", 1.0)], {"umoci": "umoci not installed: do this"}))
    assert "- umoci: not measured: umoci not installed: do this\n" in text
    assert "load 0.25 before the start; all of it took 61 s" in text


@pytest.mark.parametrize(
    ("name", "tree", "agreed"),
    [("umoci", SAME, True), ("umoci", OTHER, False), ("tar", OTHER, True)],
)
def test_trees_of_those_who_are_compared_must_agree(name: str, tree: Tree, agreed: bool) -> None:
    runs = [a_run("containerd", 1.0, SAME), a_run(name, 1.0, tree), a_run(name, 1.0)]
    assert series(runs).agreed is agreed
