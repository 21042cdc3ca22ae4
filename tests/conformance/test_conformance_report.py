"""Outcomes, lists of expected failures, and reports in both forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.chromium import browser

from snapcore.conformance import (
    ALL_CHECKS,
    Graded,
    MemoryState,
    Outcome,
    Report,
    Result,
    Subject,
    decode,
    html_report,
    joined,
    open_memory,
    parse_xfails,
    run_checks,
)
from snapcore.conformance.harness import Check, CheckFailed, Harness
from snapcore.errors import InvalidArgument, Unavailable
from snapcore.snapshots import Capability

_KNOWN = {"one", "two"}


def _passes(harness: Harness) -> None:
    harness.snapshotter.prepare("key", "")


def _fails(_harness: Harness) -> None:
    raise CheckFailed("found 1, wanted 2")


def _breaks(_harness: Harness) -> None:
    raise Unavailable("locked")


_CHECKS = (
    Check("passes", _passes, mounts=False),
    Check("fails", _fails, mounts=False),
    Check("breaks", _breaks, mounts=False),
    Check("left_out", _fails, needs=frozenset({Capability.QUOTA}), mounts=False),
)


def _run(tmp_path: Path, expected: dict[str, str]) -> dict[str, tuple[Outcome, str]]:
    subject = Subject(lambda root: open_memory(MemoryState(), root))
    results = run_checks(_CHECKS, subject, str(tmp_path), expected)
    found = {result.check: (result.outcome, result.reason) for result in results}
    assert list(tmp_path.iterdir()) == []
    return found


def test_outcomes(tmp_path: Path) -> None:
    assert _run(tmp_path, {}) == {
        "passes": (Outcome.PASSED, ""),
        "fails": (Outcome.FAILED, "found 1, wanted 2"),
        "breaks": (Outcome.FAILED, "Unavailable: locked"),
        "left_out": (Outcome.SKIPPED, "memory does not claim quota"),
    }


def test_expected_failures_are_told_apart_and_stale_ones_are_errors(tmp_path: Path) -> None:
    found = _run(tmp_path, {"passes": "bug 1", "fails": "bug 2", "left_out": "bug 3"})
    assert found["fails"] == (Outcome.XFAILED, "bug 2: found 1, wanted 2")
    assert [found[name][0] for name in ("passes", "left_out")] == [Outcome.STALE] * 2
    assert "take it off the list" in found["passes"][1]


def test_what_fails_sometimes_may_pass_but_not_be_left_out(tmp_path: Path) -> None:
    found = _run(tmp_path, {"passes?": "race 1", "fails?": "race 2", "left_out?": "race 3"})
    assert found["passes"] == (Outcome.PASSED, "")
    assert found["fails"] == (Outcome.XFAILED, "race 2: found 1, wanted 2")
    assert found["left_out"][0] is Outcome.STALE


def test_a_list_of_expected_failures() -> None:
    text = "# ours\n\none  bug 1: slow\n  two? race 2\n"
    assert parse_xfails(text, _KNOWN) == {"one": "bug 1: slow", "two?": "race 2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("three why", "line 1: there is no check 'three'"),
        ("one why\none why", "line 2: 'one' stands on the list already"),
        ("one why\none? why", "line 2: 'one?' stands on the list already"),
        ("one? why\none why", "line 2: 'one' stands on the list already"),
        ("one", "line 1: say after 'one' why it fails"),
    ],
)
def test_a_list_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        parse_xfails(text, _KNOWN)


def _graded(name: str, *results: Result) -> Graded:
    return Graded(name, "1.2", 1, "6.8", ("rebase",), {"flag": True, "words": ("a", "b")}, results)


_MINE = _graded(
    "mine",
    Result("one", Outcome.PASSED, seconds=0.5),
    Result("two", Outcome.FAILED, "found <b>\u202e, wanted '&'\nsecond line"),
)
_OTHER = _graded("other", Result("two", Outcome.SKIPPED, "other does not claim rebase"))


def test_a_report_is_read_as_it_was_written_and_joined() -> None:
    report = decode(Report((_MINE,)).encode(), "'a.json'")
    assert report == Report((_MINE,))
    assert joined([report, Report((_OTHER,))]).snapshotters == (_MINE, _OTHER)
    assert [_MINE.good, _OTHER.good] == [False, True]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"snapshotters": [], "format": 2}'])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"'a\.json'"):
        decode(data, "'a.json'")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.loads: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {value}" for key, value in attrs if key in ("src", "action")]
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1][-1] += data


def test_the_page_shows_every_check_and_every_reason_and_loads_nothing() -> None:
    page = _Page()
    text = html_report(Report((_MINE, _OTHER)))
    page.feed(text)
    rows = {cells[0]: cells[1:] for cells in page.cells}
    assert rows["one"] == ["passed", "not in this suite"]
    assert rows["two"] == [
        "failedfound <b>\\u202e, wanted '&'\nsecond line",
        "left outother does not claim rebase",
    ]
    assert rows["mine"][-1] == "1 passed, 1 failed"
    assert page.loads == []
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_of_the_whole_suite_is_small() -> None:
    results = [Result(check.name, Outcome.PASSED) for check in ALL_CHECKS]
    assert len(html_report(Report((_graded("mine", *results),) * 3))) < 100_000


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_page_is_used_with_a_keyboard_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(html_report(Report((_MINE, _OTHER))), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path)
        seen = []
        for _ in range(6):
            page.press("Tab", 9)
            seen.append(page.value("document.activeElement.id || document.activeElement.tagName"))
        assert seen == ["A", "words", "only", "SUMMARY", "SUMMARY", "BODY"]
        assert page.value("document.querySelectorAll('details[open]').length") == 1
        page.value("document.getElementById('only').click()")
        assert page.value("document.getElementById('count').textContent") == "1 of 2 checks"
        loud = ("Log.entryAdded", "Runtime.exceptionThrown")
        assert [event for event in page.events if event["method"] in loud] == []
        asked = [event for event in page.events if event["method"] == "Network.requestWillBeSent"]
        assert {event["params"]["request"]["url"] for event in asked} == {path.as_uri()}
