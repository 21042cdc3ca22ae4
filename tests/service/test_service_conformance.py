"""The suite over a socket: one state for all checks, each of which finds and leaves it empty."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import call

from snapcore.conformance import (
    ALL_CHECKS,
    Check,
    Harness,
    MemorySnapshotter,
    MemoryState,
    Outcome,
    Subject,
    open_memory,
)
from snapcore.conformance.run import run_check
from snapcore.errors import NotFound
from snapcore.service import serving
from snapcore.service.client import leased, open_service
from snapcore.snapshots import Checkpoint, Info, Labels, Probe, hookimpl, open_backend

# In memory there is nothing to mount; `make test-containerd` runs the others.
CHECKS = [check for check in ALL_CHECKS if not (check.mounts or check.long)]
LEFT_OUT = {
    "clock_steps": "works in another process",
    "cancelled_prepare": "works in another process",
    "remote_supplies_a_layer": "does not claim remote",
    "processes_are_linearizable": "no other process can open",
    "killed_in_the_middle": "no other process can open",
    **dict.fromkeys(
        ("broken_parents", "what_cannot_be_broken", "broken_is_replaced_by_a_commit"),
        "has no broken snapshots",
    ),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the reference, with a snapshot that is not the clients'."""
    place = tmp_path_factory.mktemp("service")
    with open_memory(MemoryState(), str(place)) as memory:
        memory.prepare("ours", "")
        with serving(str(place / "s/socket"), [memory]):
            yield f"unix://{place}/s/socket"


def subject(address: str) -> Subject:
    return Subject(
        lambda _root: open_service(address, "any"), mountable=False, installed=False, local=False
    )


@pytest.mark.parametrize(
    "check",
    [
        # Hundreds of calls.
        pytest.param(
            c, id=c.name, marks=[pytest.mark.long] * (c.name == "walk_is_sorted_and_whole")
        )
        for c in CHECKS
    ],
)
def test_a_served_snapshotter_conforms(check: Check, address: str, tmp_path: Path) -> None:
    result = run_check(check, subject(address), str(tmp_path))
    if check.name in LEFT_OUT:
        assert result.outcome is Outcome.SKIPPED
        assert LEFT_OUT[check.name] in result.reason
    else:
        assert (result.outcome, result.reason) == (Outcome.PASSED, "")


def test_what_a_check_leaves_is_removed_children_first(address: str, tmp_path: Path) -> None:
    def litter(harness: Harness) -> None:
        s = harness.snapshotter
        s.prepare("key")
        s.commit("a", "key")
        for name, parent in (("b", "a"), ("c", "b")):
            s.prepare("key", parent)
            s.commit(name, "key")
            s.view(f"view {name}", name)
        s.close()
        raise NotFound("on purpose")

    result = run_check(Check("litter", litter, mounts=False), subject(address), str(tmp_path))
    assert result.reason == "NotFound: on purpose"
    with open_service(address, "any") as client:
        assert list(client.walk()) == []


def test_what_is_somebody_elses_is_left_alone(address: str, tmp_path: Path) -> None:
    with open_service(address, "any") as client:
        client.prepare("somebody's")
        result = run_check(CHECKS[0], subject(address), str(tmp_path))
        assert result.outcome is Outcome.FAILED
        assert 'has snapshots already, such as "somebody\'s"' in result.reason
        assert [info.name for info in client.walk()] == ["somebody's"]
        client.remove("somebody's")


def test_where_there_are_no_leases_none_is_needed(address: str) -> None:
    with leased(address) as lease:
        assert lease == ""


def test_on_the_command_line(address: str) -> None:
    few = ("--only", "stat", "--only", "rebase_table", "--only", "flush")
    done = call("conformance", address, "--snapshotter", "any", *few, "--format", "json")
    assert done.code == 0, done.err
    (graded,) = json.loads(done.out)["snapshotters"]
    assert graded["snapshotter"] == "any"
    assert graded["capabilities"] == ["rebase", "remap_ids"]
    assert graded["options"]["namespace"] == "snapcore-conformance"
    found = {result["check"]: result["outcome"] for result in graded["results"]}
    assert found == {"stat": "passed", "rebase_table": "passed", "flush": "skipped"}


def test_a_capability_is_declared(address: str) -> None:
    words = ("--capability", "quota", "--only", "stat", "--format", "json")
    done = call("conformance", address, "--snapshotter", "any", *words)
    assert done.code == 0, done.err
    assert "quota" in json.loads(done.out)["snapshotters"][0]["capabilities"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("unix:///run/x.sock",), 2, "say with --snapshotter which one behind"),
        (("tcp://host:1", "--snapshotter", "x"), 2, "not the address of a unix socket"),
        (("unix:///nonexistent", "--snapshotter", "x"), 6, "no service at '/nonexistent'"),
        (("unix:///x", "--snapshotter", "x", "--option", "a=b"), 2, "is for installed plugins"),
        (("unix:///x", "--snapshotter", "x", "--capability", "y"), 2, "no capability 'y'; there"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = call("conformance", *arguments)
    assert done.code == code
    assert message in done.err


class Forgetful(MemorySnapshotter):
    """Keeps the labels of the key at a commit."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        return super().commit(name, key, self.stat(key).labels, parent, checkpoint)


def test_what_is_broken_behind_a_socket_is_found(tmp_path: Path) -> None:
    (check,) = (check for check in CHECKS if check.name == "commit_replaces_labels")
    backend = Forgetful(MemoryState())
    forgetful = open_backend("forgetful", str(tmp_path), backend, Probe(usable=True))
    address, place = str(tmp_path / "s/socket"), tmp_path / "place"
    place.mkdir()
    with serving(address, [forgetful]):
        result = run_check(check, subject(address), str(place))
    assert (result.outcome, "t.old" in result.reason) == (Outcome.FAILED, True)
