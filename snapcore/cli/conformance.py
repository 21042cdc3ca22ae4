"""`conformance`: check that a snapshotter does what the contract says."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.examined import Choice, examined
from snapcore.cli.exits import FAILED
from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, write_rows, write_text
from snapcore.cli.session import Session
from snapcore.cli.text import printable
from snapcore.errors import InvalidArgument, from_os_error

if TYPE_CHECKING:
    from snapcore.conformance import Check, Report

_COLUMNS: Final = (
    Column("SNAPSHOTTER", "snapshotter"),
    Column("CHECK", "check"),
    Column("OUTCOME", "outcome"),
    Column("SECONDS", "seconds", right=True),
    Column("REASON", "reason"),
)


@click.command(cls=Verb)
@click.argument("name", required=False, default="")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the snapshotter."
)
@click.option(
    "--namespace",
    metavar="NAME",
    default="snapcore-conformance",
    show_default=True,
    help="Namespace of containerd to work in; nothing else may be there.",
)
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    metavar="NAME",
    help="What a snapshotter behind a socket can do, besides what it says; may be repeated.",
)
@click.option(
    "--xfails",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Checks that are expected to fail, with the reasons; one that does not fail is an error.",
)
@click.option(
    "--only", "names", multiple=True, metavar="CHECK", help="Run this check; may be repeated."
)
@click.option("--quick", is_flag=True, help="Leave out the checks that take many seconds.")
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(1),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="Fail a check that takes longer.",
)
@click.option(
    "--join",
    "others",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Put the results of this JSON report beside the new ones; may be repeated.",
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FILE",
    help="Write a report, .json or .html; may be repeated.",
)
@click.pass_context
def conformance(
    context: click.Context,
    name: str,
    options: Sequence[str],
    namespace: str,
    capabilities: Sequence[str],
    xfails: str | None,
    names: Sequence[str],
    quick: bool,
    seconds: float,
    others: Sequence[str],
    reports: Sequence[str],
) -> None:
    """Check that a snapshotter does what the contract says.

    NAME is that of an installed plugin. Each check gets a fresh state root below --root, or
    below a temporary directory.

    Or it is the address of a socket, unix:///…: that of containerd, or of `snapcore serve`. Then
    --snapshotter says what is meant there. It must have no snapshots, and has none afterwards.
    """
    from snapcore.conformance import Report, joined

    if not name and not others:
        raise click.UsageError("give a snapshotter to check, or reports to --join", context)
    for path in reports:
        _form(path)
    session = Session.of(context)
    before = [_read(path) for path in others]
    new = Report(())
    if name:
        choice = Choice(name, tuple(options), session.snapshotter, namespace, tuple(capabilities))
        new = _check(session, choice, _expected(xfails), _chosen(names, quick), seconds)
    report = joined([*before, new])
    for path in reports:
        _write(path, report)
    if session.format == "json":
        write_text(report.encode().decode())
    else:
        _write_table(report)
    if not all(each.good for each in report.snapshotters):
        context.exit(FAILED)


def _check(
    session: Session,
    choice: Choice,
    expected: Mapping[str, str],
    chosen: Sequence[Check],
    seconds: float,
) -> Report:
    from snapcore.conformance import Report, graded, run_checks

    with _place(session) as place, examined(choice, place) as found:
        results = []
        for result in run_checks(chosen, found.subject, place, expected, seconds):
            results.append(result)
            if session.progress != "none":
                told = f"{len(results)}/{len(chosen)} {result.check}: {result.outcome}"
                print(f"{told} ({result.seconds:.1f}s)", file=sys.stderr, flush=True)
    return Report((graded(found.name, found.probe, found.options, results),))


@contextmanager
def _place(session: Session) -> Iterator[str]:
    from snapcore.conformance.place import delete_place

    flag = session.flags.get("root")
    # Not from the environment: that is where a node lives.
    on_command_line = flag is not None and flag.origin.startswith("flag")
    given = os.path.abspath(str(flag.value)) if flag is not None and on_command_line else None
    try:
        if given is not None:
            os.makedirs(given, exist_ok=True)
        place = tempfile.mkdtemp(prefix="snapcore-conformance-", dir=given)
    except OSError as error:
        raise from_os_error(error, f"directory {given!r} for the checks") from error
    try:
        yield place
    finally:
        delete_place(place)


def _chosen(names: Sequence[str], quick: bool) -> Sequence[Check]:
    from snapcore.conformance import ALL_CHECKS

    known = {check.name for check in ALL_CHECKS}
    for name in names:
        if name not in known:
            raise InvalidArgument(f"there is no check {name!r}; the table shows all of them")
    return [
        check
        for check in ALL_CHECKS
        if (not names or check.name in names) and not (quick and check.long)
    ]


def _expected(path: str | None) -> Mapping[str, str]:
    from snapcore.conformance import ALL_CHECKS, parse_xfails

    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise from_os_error(error, f"list of expected failures {path!r}") from error
    try:
        return parse_xfails(text, {check.name for check in ALL_CHECKS})
    except InvalidArgument as error:
        raise InvalidArgument(f"{path!r}, {error}") from error


def _form(path: str) -> str:
    form = path.rpartition(".")[2].lower()
    if form not in ("json", "html"):
        raise click.BadParameter(f"{path!r} ends in none of .json, .html")
    return form


def _read(path: str) -> Report:
    from snapcore.conformance import decode

    try:
        with open(path, "rb") as file:
            return decode(file.read(), repr(path))
    except OSError as error:
        raise from_os_error(error, f"report {path!r}") from error


def _write(path: str, report: Report) -> None:
    from snapcore.conformance import html_report

    data = report.encode() if _form(path) == "json" else html_report(report).encode()
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise from_os_error(error, f"report {path!r}") from error


def _write_table(report: Report) -> None:
    rows = [
        {
            "snapshotter": each.snapshotter,
            "check": result.check,
            "outcome": result.outcome.value,
            "seconds": f"{result.seconds:.2f}",
            "reason": printable(result.reason),
        }
        for each in report.snapshotters
        for result in each.results
    ]
    write_rows("table", _COLUMNS, rows)
