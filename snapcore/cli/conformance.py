"""`conformance`: check that a snapshotter does what the contract says."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.exits import FAILED
from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, write_rows, write_text
from snapcore.cli.session import Session
from snapcore.cli.text import printable
from snapcore.errors import FailedPrecondition, InvalidArgument, Unimplemented, from_os_error

if TYPE_CHECKING:
    from snapcore.conformance import Check, Report
    from snapcore.snapshots import Option

_COLUMNS: Final = (
    Column("SNAPSHOTTER", "snapshotter"),
    Column("CHECK", "check"),
    Column("OUTCOME", "outcome"),
    Column("SECONDS", "seconds", right=True),
    Column("REASON", "reason"),
)
_TRUTH: Final = {"true": True, "false": False}


@click.command(cls=Verb)
@click.argument("name", required=False, default="")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the snapshotter."
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
        new = _check(session, name, options, _expected(xfails), _chosen(names, quick), seconds)
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
    name: str,
    pairs: Sequence[str],
    expected: Mapping[str, str],
    chosen: Sequence[Check],
    seconds: float,
) -> Report:
    from snapcore.conformance import Report, Subject, graded, run_checks
    from snapcore.snapshots import open_snapshotter, probe_snapshotter, snapshotter_options

    if "://" in name:
        raise Unimplemented(
            f"cannot check {name!r}: snapshotters behind a socket are not supported yet; give the"
            " name of an installed plugin"
        )
    options = _options(name, snapshotter_options(name), pairs)
    with _place(session) as place:
        probe = probe_snapshotter(name, os.path.join(place, "probe"), options)
        if not probe.usable:
            raise FailedPrecondition(f"snapshotter {name!r} cannot work here: {probe.reason}")
        subject = Subject(lambda root: open_snapshotter(name, root, options=options))
        results = []
        for result in run_checks(chosen, subject, place, expected, seconds):
            results.append(result)
            if session.progress != "none":
                told = f"{len(results)}/{len(chosen)} {result.check}: {result.outcome}"
                print(f"{told} ({result.seconds:.1f}s)", file=sys.stderr, flush=True)
    return Report((graded(name, probe, options, results),))


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


def _options(
    name: str, schema: Mapping[str, Option], pairs: Sequence[str]
) -> dict[str, bool | int | str | tuple[str, ...]]:
    given: dict[str, bool | int | str | tuple[str, ...]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InvalidArgument(f"not an option of {name!r}: {pair!r} (want key=value)")
        option = schema.get(key)
        default = option.default if option else ""
        if isinstance(default, bool):
            given[key] = _TRUTH.get(text, text)
        elif isinstance(default, int) and text.removeprefix("-").isdecimal():
            given[key] = int(text)
        elif isinstance(default, tuple):
            earlier = given.get(key, ())
            given[key] = (*(earlier if isinstance(earlier, tuple) else ()), text)
        else:
            given[key] = text
    return given


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
