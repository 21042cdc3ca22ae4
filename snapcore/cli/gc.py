"""`gc`: collect what nothing keeps, and say why the rest is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.gc_graph import write_graph
from snapcore.cli.output import Column, Json, Record, size, write_json, write_line, write_rows
from snapcore.cli.session import Session
from snapcore.cli.text import human_size, printable
from snapcore.cli.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from snapcore.gc import Budget, Explanation, Garbage, Plan, Report, Thing

_THINGS: Final = (
    Column("KIND", "kind"),
    Column("ID", "id"),
    Column("SNAPSHOTTER", "snapshotter"),
    Column("SIZE", "size", size, right=True),
)
_STEPS: Final = (
    Column("KIND", "kind"),
    Column("ID", "id"),
    Column("SNAPSHOTTER", "snapshotter"),
    Column("BECAUSE", "because"),
)


@click.command("gc", cls=Verb)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--why", metavar="ID", help="Say what keeps a thing, and remove nothing.")
@click.option(
    "--graph",
    metavar="FILE",
    help="Draw what keeps what into FILE (.html, .svg, .dot, .json), and remove nothing.",
)
@click.option(
    "--keep-bytes",
    metavar="SIZE",
    callback=lambda _context, _option, text: text and parse_size(text),
    help="Let the least recently used images go until the rest has at most SIZE (20G).",
)
@click.option(
    "--unused-for",
    metavar="TIME",
    callback=lambda _context, _option, text: text and parse_duration(text),
    help="Let images go that were not used for TIME (7d, 12h).",
)
@click.pass_context
def gc(
    context: click.Context,
    dry_run: bool,
    why: str | None,
    graph: str | None,
    keep_bytes: int | None,
    unused_for: int | None,
) -> None:
    """Remove the blobs and snapshots that nothing needs.

    Images, leases, mounts and things labelled as roots are needed, and so is what they name.
    Nothing that is mounted or leased ever goes.
    """
    from snapcore.gc import Budget

    session = Session.of(context)
    budget = Budget(keep_bytes, unused_for)
    if why is not None or graph is not None:
        if dry_run or budget or (why and graph):
            word = "--graph draws" if why is None else "--why asks a question"
            raise click.UsageError(f"{word}: it goes with no other option of gc")
        if why is not None:
            _explain(session, why)
        else:
            write_graph(session, str(graph))
    elif dry_run:
        _plan(session, budget)
    else:
        _collect(session, budget, context)


def _explain(session: Session, text: str) -> None:
    with session.node() as node:
        found = node.garbage.why(text)
    if session.format == "json":
        write_json([_explanation(one) for one in found])
        return
    for one in found:
        steps = one.steps or one.holders
        if not one.kept:
            also = "; it would be kept by:" if steps else ""
            write_line(printable(f"{one.thing} is garbage: nothing keeps it{also}"))
        if steps:
            write_rows("table", _STEPS, [_step(step.thing, step.because) for step in steps])


def _plan(session: Session, budget: Budget) -> None:
    with session.node() as node:
        plan = node.garbage.plan(budget)
    _warn(plan.unopened)
    if session.format == "json":
        write_json(_plan_record(plan))
        return
    write_rows("table", _THINGS, [_thing(image, 0) for image in plan.images] + _rows(plan.garbage))
    write_line(f"{len(plan.garbage)} things would go, {human_size(plan.size)}; {plan.kept} stay")


def _collect(session: Session, budget: Budget, context: click.Context) -> None:
    from snapcore.cli.exits import FAILED

    with session.node(freeing=True) as node:
        report = node.garbage.collect(budget)
    _warn(report.unopened)
    for thing, reason in report.failed.items():
        click.echo(printable(f"snapcore: cannot remove {thing}: {reason}"), err=True)
    if session.format == "json":
        write_json(_report_record(report))
    else:
        gone = [_thing(image, 0) for image in report.images]
        write_rows("table", _THINGS, gone + _rows(report.removed))
        write_line(f"{len(report.removed)} things went, {human_size(report.size)}")
    if report.failed:
        context.exit(FAILED)


def _warn(unopened: Mapping[str, str]) -> None:
    for name, reason in unopened.items():
        click.echo(printable(f"snapcore: snapshotter {name!r} is left alone: {reason}"), err=True)


def _rows(items: Iterable[Garbage]) -> list[Record]:
    return [_thing(item.thing, item.size) for item in items]


def _thing(thing: Thing, size: int) -> dict[str, Json]:
    return {
        "kind": str(thing.kind),
        "id": thing.id,
        "snapshotter": thing.scope,
        "size": size,
    }


def _step(thing: Thing, because: str) -> dict[str, Json]:
    return {
        "kind": str(thing.kind),
        "id": thing.id,
        "snapshotter": thing.scope,
        "because": because,
    }


def _explanation(found: Explanation) -> dict[str, Json]:
    return {
        "kind": str(found.thing.kind),
        "id": found.thing.id,
        "snapshotter": found.thing.scope,
        "kept": found.kept,
        "steps": [_step(step.thing, step.because) for step in found.steps],
        "holders": [_step(step.thing, step.because) for step in found.holders],
    }


def _plan_record(plan: Plan) -> dict[str, Json]:
    return {
        "images": [image.id for image in plan.images],
        "garbage": [_thing(item.thing, item.size) for item in plan.garbage],
        "size": plan.size,
        "kept": plan.kept,
        "unopened": dict(plan.unopened),
    }


def _report_record(report: Report) -> dict[str, Json]:
    return {
        "images": [image.id for image in report.images],
        "removed": [_thing(item.thing, item.size) for item in report.removed],
        "size": report.size,
        "spared": [_thing(thing, 0) for thing in report.spared],
        "failed": [{**_thing(t, 0), "reason": reason} for t, reason in report.failed.items()],
        "leases": list(report.leases),
        "orphans": dict(report.orphans),
        "unopened": dict(report.unopened),
        "seconds": dict(report.seconds),
    }
