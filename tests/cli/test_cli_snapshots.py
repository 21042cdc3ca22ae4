"""`snapshots` over the native backend, which needs no privilege."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest
from support.cli import Outcome, call

from snapcore.labels import GC_ROOT


class Snapcore(Protocol):
    def __call__(self, *arguments: str) -> Outcome: ...


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapcore:
    """Call `snapcore snapshots` on a root of its own."""

    def run(*arguments: str) -> Outcome:
        root = str(tmp_path / "root")
        return call("--root", root, "--snapshotter", "native", "snapshots", *arguments)

    return run


def labels(outcome: Outcome) -> dict[str, str]:
    found = outcome.record()["labels"]
    assert isinstance(found, dict)
    return found


def test_life_of_a_snapshot(snapshots: Snapcore, census: None) -> None:
    assert snapshots("prepare", "a", "--label", "x=1").code == 0
    committed = snapshots("commit", "b", "a", "--label", "y=2", "--format", "json").record()
    assert (committed["name"], committed["kind"], committed["parent"]) == ("b", "committed", "")
    assert snapshots("view", "c", "b").code == 0
    assert snapshots("ls", "-q").out == "b\nc\n"
    assert snapshots("ls", "kind==view", "-q").out == "c\n"
    info = snapshots("info", "c", "--format", "json").record()
    assert (info["name"], info["kind"], info["parent"]) == ("c", "view", "b")
    assert str(info["created"]).endswith("Z")
    tree = snapshots("tree")
    assert tree.out == "b  (committed)\n  c  (view)\n"
    rows = snapshots("tree", "--format", "json").records()
    assert [(row["name"], row["depth"]) for row in rows] == [("b", 0), ("c", 1)]
    refused = snapshots("rm", "b")
    assert (refused.code, refused.out) == (1, "")
    assert "'b'" in refused.err
    assert snapshots("rm", "c", "b").out == "c\nb\n"
    assert snapshots("ls", "--format", "json").json() == []


def test_tree_of_several_branches(snapshots: Snapcore) -> None:
    for name, parent in (("a", ""), ("b", "a"), ("c", "a"), ("d", "b")):
        assert snapshots("prepare", "k", *([parent] if parent else [])).code == 0
        assert snapshots("commit", name, "k").code == 0
    assert [line.split()[0] for line in snapshots("tree").out.splitlines()] == ["a", "b", "d", "c"]


def test_mounts_as_command_and_as_json(snapshots: Snapcore) -> None:
    command = snapshots("prepare", "a", "--target", "/mnt/it's").out
    assert command.startswith("mount -t bind /")
    assert "'/mnt/it'\"'\"'s'" in command
    assert command.endswith(" -o rbind,rw\n")
    assert snapshots("mounts", "a", "--target", "/mnt/it's").out == command
    mounts = snapshots("mounts", "a", "--mounts").records()
    assert [mount["options"] for mount in mounts] == [["rbind", "rw"]]
    assert mounts == snapshots("mounts", "a", "--format", "json").records()
    assert "OPTIONS" in snapshots("mounts", "a").out
    assert snapshots("commit", "b", "a").code == 0
    assert snapshots("mounts", "b").code == 1


def test_what_is_made_by_hand_is_a_root(snapshots: Snapcore) -> None:
    snapshots("prepare", "a")
    assert GC_ROOT in labels(snapshots("info", "a", "--format", "json"))
    snapshots("prepare", "b", "--no-root", "--label", "x=1")
    assert labels(snapshots("info", "b", "--format", "json")) == {"x": "1"}
    snapshots("commit", "c", "a")
    assert GC_ROOT in labels(snapshots("info", "c", "--format", "json"))
    snapshots("commit", "d", "b", "--no-root")
    assert labels(snapshots("info", "d", "--format", "json")) == {}
    snapshots("view", "e", "c", "--label", f"{GC_ROOT}=mine")
    assert labels(snapshots("info", "e", "--format", "json")) == {GC_ROOT: "mine"}


def test_labels_are_set_and_deleted(snapshots: Snapcore) -> None:
    snapshots("prepare", "a", "--no-root", "--label", "x=1", "--label", "y=2")
    changed = snapshots("label", "a", "x=", "a.b/c=d=e", "--format", "json")
    assert labels(changed) == {"y": "2", "a.b/c": "d=e"}
    assert snapshots("ls", 'labels."a.b/c"==d=e', "-q").out == "a\n"


def test_usage(snapshots: Snapcore) -> None:
    snapshots("prepare", "a")
    snapshots("prepare", "b")
    rows = snapshots("usage", "--format", "json").records()
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["inodes"] == 1
    exact = snapshots("usage", "a", "-b").out.splitlines()[1].split()
    assert exact == ["a", str(rows[0]["size"]), "1"]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["info", "none"], 3, "'none'"),
        (["usage", "none"], 3, "'none'"),
        (["mounts", "none"], 3, "'none'"),
        (["rm", "none"], 3, "'none'"),
        (["label", "none", "a=b"], 3, "'none'"),
        (["commit", "name", "none"], 3, "'none'"),
        (["prepare", "k", "none"], 3, "'none'"),
        (["label", "none", "ab"], 2, "'ab'"),
        (["prepare", "k", "--label", "ab"], 2, "'ab'"),
        (["prepare", "k\n"], 2, "k\\n"),
        (["ls", "kind=="], 2, "kind=="),
        (["ls", "colour==red"], 2, "colour"),
        (["ls", "--snapshotter", "none"], 3, "'none'"),
        (["prepare"], 2, "KEY"),
    ],
)
def test_one_sentence(snapshots: Snapcore, arguments: list[str], code: int, named: str) -> None:
    outcome = snapshots(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("snapcore: ")
    assert outcome.err.count("\n") == 1
    assert named in outcome.err


def test_a_key_twice(snapshots: Snapcore) -> None:
    assert snapshots("prepare", "a").code == 0
    outcome = snapshots("prepare", "a")
    assert outcome.code == 4
    assert "'a'" in outcome.err


def test_hooks_are_traced(snapshots: Snapcore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPCORE_TRACE_HOOKS", "1")
    outcome = snapshots("ls", "-q")
    assert outcome.out == ""
    assert "hook native.walk(" in outcome.err
