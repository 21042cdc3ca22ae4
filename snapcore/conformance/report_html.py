"""A report as one page: a row for each check, a column for each snapshotter, and the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from snapcore.conformance.report import Graded, Report
from snapcore.conformance.run import Outcome, Result
from snapcore.page import filter_form, filter_script, page, shown

_STYLE: Final = """
thead th { position: sticky; top: 0; background: #fff; }
td.failed, td.stale { background: #ffe3e0; }
td.failed summary, td.stale summary { color: #a32018; font-weight: bold; }
td.skipped, td.xfailed { background: #f3f3f3; }
td p { max-width: 36rem; overflow-wrap: anywhere; margin: .25rem 0; white-space: pre-wrap; }
th.check { font-family: monospace; font-weight: normal; }
"""
_SCRIPT: Final = filter_script('row.querySelector("td:not(.passed):not(.absent)")', "checks")
_WORDS: Final = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.SKIPPED: "left out",
    Outcome.XFAILED: "failed as expected",
    Outcome.STALE: "did not fail as expected",
}


def html_report(report: Report) -> str:
    """Return a report as a page that needs nothing else."""
    return page(
        "snapcore: conformance",
        "Skip to the checks",
        _STYLE,
        _SCRIPT,
        [
            "<header><h1>Conformance</h1></header>",
            *_summary(report),
            *filter_form("only what did not pass"),
            "<main id='things' tabindex='-1'>",
            *_table(report),
            "</main>",
        ],
    )


def _summary(report: Report) -> Iterator[str]:
    yield "<table><caption>Snapshotters</caption><thead><tr>"
    titles = ("snapshotter", "suite", "contract", "kernel", "claims", "options", "results")
    yield "".join(f"<th scope='col'>{title}</th>" for title in titles)
    yield "</tr></thead><tbody>"
    for each in report.snapshotters:
        counts = each.counts()
        results = ", ".join(f"{counts[word]} {_WORDS[word]}" for word in Outcome if counts[word])
        options = ", ".join(f"{name}={value}" for name, value in sorted(each.options.items()))
        cells = (
            each.suite,
            str(each.contract),
            each.kernel,
            ", ".join(each.capabilities),
            options,
            results,
        )
        yield f"<tr><th scope='row'>{escape(shown(each.snapshotter))}</th>"
        yield "".join(f"<td>{escape(shown(cell))}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table>"


def _table(report: Report) -> Iterator[str]:
    columns = [{result.check: result for result in each.results} for each in report.snapshotters]
    # A dict, since it keeps the order in which names come first.
    names = dict.fromkeys(name for column in columns for name in column)
    yield "<table><caption>Checks</caption><thead><tr><th scope='col'>check</th>"
    yield "".join(f"<th scope='col'>{escape(shown(e.snapshotter))}</th>" for e in _graded(report))
    yield "</tr></thead><tbody>"
    for number, name in enumerate(names):
        yield f"<tr id='c{number}'><th class='check' scope='row'>{escape(shown(name))}</th>"
        yield "".join(_cell(column.get(name)) for column in columns) + "</tr>"
    yield "</tbody></table>"


def _graded(report: Report) -> tuple[Graded, ...]:
    return report.snapshotters


def _cell(result: Result | None) -> str:
    if result is None:
        return "<td class='absent'>not in this suite</td>"
    word = _WORDS[result.outcome]
    if not result.reason:
        return f"<td class='{result.outcome}'>{word}</td>"
    reason = "\n".join(shown(line) for line in result.reason.splitlines())
    opened = "" if result.good else " open"
    return (
        f"<td class='{result.outcome}'><details{opened}><summary>{word}</summary>"
        f"<p>{escape(reason)}</p></details></td>"
    )
