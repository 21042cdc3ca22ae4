"""`snapcore conformance`: the checks of an installed snapshotter, with reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.cli import call, spawn

from snapcore.conformance.harness import CheckFailed

pytestmark = pytest.mark.usefixtures("census")

_FEW = ("--only", "stat", "--only", "rebase_table", "--only", "unknown_keys")


def _outcomes(text: str) -> dict[str, str]:
    (graded,) = json.loads(text)["snapshotters"]
    return {result["check"]: result["outcome"] for result in graded["results"]}


def test_results_progress_and_both_reports(tmp_path: Path) -> None:
    reports = ("--report", f"{tmp_path}/out.json", "--report", f"{tmp_path}/out.html")
    done = call("conformance", "native", "--root", f"{tmp_path}/roots", *_FEW, *reports)
    assert done.code == 0, done.err
    assert [line.split()[1:3] for line in done.out.splitlines()[1:]] == [
        ["stat", "passed"],
        ["unknown_keys", "passed"],
        ["rebase_table", "skipped"],
    ]
    assert "native does not claim rebase" in done.out
    assert [line.split()[0] for line in done.err.splitlines()] == ["1/3", "2/3", "3/3"]
    assert _outcomes((tmp_path / "out.json").read_text())["rebase_table"] == "skipped"
    assert "rebase_table" in (tmp_path / "out.html").read_text()
    assert os.listdir(tmp_path / "roots") == []


def test_json_is_the_report() -> None:
    done = call("conformance", "native", "--format", "json", "--progress", "none", *_FEW)
    assert (done.code, done.err) == (0, "")
    assert set(_outcomes(done.out).values()) == {"passed", "skipped"}


def test_stale_lines_of_expected_failures_are_errors(tmp_path: Path) -> None:
    listed = tmp_path / "xfails"
    listed.write_text("stat bug 7\n")
    done = call("conformance", "native", "--xfails", str(listed), "--only", "stat")
    assert done.code == 1
    assert "expected to fail (bug 7), and passed: take it off the list" in done.out


def test_a_failed_check_is_code_1_unless_it_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expect(condition: bool, message: str) -> None:
        raise CheckFailed(message)

    monkeypatch.setattr("snapcore.conformance.checks.lifecycle.expect", expect)
    listed = tmp_path / "xfails"
    listed.write_text("# known\nstat  bug 8\n")
    assert call("conformance", "native", "--only", "stat").code == 1
    done = call("conformance", "native", "--only", "stat", "--xfails", str(listed))
    assert (done.code, "xfailed" in done.out) == (0, True)


def test_reports_are_joined_without_running_anything(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.json") for number in range(2)]
    for file in files:
        assert call("conformance", "native", "--only", "stat", "--report", file).code == 0
    page = str(tmp_path / "all.html")
    done = call("conformance", "--join", files[0], "--join", files[1], "--report", page)
    assert (done.code, done.err) == (0, "")
    assert Path(page).read_text().count("<tr><th scope='row'>native</th>") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give a snapshotter to check, or reports to --join"),
        (("nothing",), 3, "no snapshotter 'nothing' is installed"),
        (("native", "--capability", "rebase"), 2, "--capability is for sockets"),
        (("native", "--only", "nothing"), 2, "there is no check 'nothing'"),
        (("native", "--option", "sync_remove"), 2, "want key=value"),
        (("native", "--option", "sync_remove=maybe"), 2, "must be of type bool"),
        (("native", "--option", "what=1"), 2, "unknown option"),
        (("native", "--report", "out.txt"), 2, "ends in none of .json, .html"),
        (("native", "--xfails", "/nonexistent"), 2, "does not exist"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = call("conformance", *arguments)
    assert done.code == code
    assert message in done.err


@pytest.mark.needs_root
def test_options_go_to_the_snapshotter() -> None:
    pairs = ("--option", "sync_remove=true", "--option", "mount_options=xino=off")
    done = call("conformance", "overlay", *pairs, "--format", "json", "--only", "stat")
    assert done.code == 0, done.err
    options = json.loads(done.out)["snapshotters"][0]["options"]
    assert (options["sync_remove"], options["mount_options"]) == (True, ["xino=off"])


@pytest.mark.long
@pytest.mark.needs_root
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["overlay", "native", "fuse"])
def test_our_backends_pass(backend: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ("conformance", backend, "--root", str(tmp_path), "--report", str(report))
    done = spawn(*arguments, patience=850)
    assert done.code == 0, done.out
    assert set(_outcomes(report.read_text()).values()) <= {"passed", "skipped"}
