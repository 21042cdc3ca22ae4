"""`leases`: promises that things are needed, made and taken back by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore import labels as label_rules
from snapcore.cli.flags import Verbs
from snapcore.cli.output import Column, Json, write_line, write_record, write_rows
from snapcore.cli.session import Session
from snapcore.cli.text import rfc3339
from snapcore.cli.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snapcore.metadata import Lease, Resource

_LIST: Final = (
    Column("ID", "id"),
    Column("CREATED", "created"),
    Column("LIFETIME", "lifetime"),
    Column("STATE", "state"),
    Column("HOLDS", "holds", right=True),
)


@click.group(cls=Verbs)
def leases() -> None:
    """Work with leases: what they hold is not collected."""


@leases.command("create")
@click.argument("name", default="")
@click.option(
    "--expire",
    metavar="TIME",
    callback=lambda _context, _option, text: text and parse_duration(text),
    help="How long it lasts (24h, 7d).  [default: until it is removed]",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option(
    "--hold",
    "held",
    multiple=True,
    metavar="KIND=ID",
    help="What it holds: content=DIGEST, snapshots/SNAPSHOTTER=KEY, ingests=REF, images=NAME.",
)
@click.pass_context
def create(
    context: click.Context,
    name: str,
    expire: int | None,
    labels: tuple[str, ...],
    held: tuple[str, ...],
) -> None:
    """Make a lease and print its id."""
    from snapcore.metadata import Resource

    session = Session.of(context)
    resources = [Resource.parse(text) for text in held]
    given = label_rules.parse(labels)
    with session.node() as node:
        lease = node.leases.create(name, lifetime=expire, labels=given)
        node.garbage.hold(lease.id, resources)
    if session.format == "json":
        write_record("json", _record(lease, resources, over=False))
    else:
        write_line(lease.id)


@leases.command("hold")
@click.argument("name")
@click.argument("held", nargs=-1, required=True, metavar="KIND=ID…")
@click.option("--let-go", is_flag=True, help="Take them out instead.")
@click.pass_context
def hold(context: click.Context, name: str, held: tuple[str, ...], let_go: bool) -> None:
    """Put things into a lease, whether they are there yet or not."""
    from snapcore.metadata import Resource

    resources = [Resource.parse(text) for text in held]
    with Session.of(context).node() as node:
        if let_go:
            node.leases.get(name)
            node.leases.let_go(name, resources)
        else:
            node.garbage.hold(name, resources)


@leases.command("ls")
@click.pass_context
def ls(context: click.Context) -> None:
    """List leases and what they hold."""
    session = Session.of(context)
    with session.node() as node:
        live = {lease.id for lease, _ in node.leases.live()}
        rows = [
            _record(lease, node.leases.resources(lease.id), over=lease.id not in live)
            for lease in node.leases.list()
        ]
    write_rows(session.format, _LIST, rows)


@leases.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.option("--sync", is_flag=True, help="Collect garbage at once.")
@click.pass_context
def rm(context: click.Context, names: tuple[str, ...], sync: bool) -> None:
    """Remove leases; what they held is collected unless something else needs it."""
    with Session.of(context).node(freeing=True) as node:
        for name in names:
            node.leases.delete(name)
            write_line(name)
        if sync:
            node.garbage.collect()


def _record(lease: Lease, resources: Sequence[Resource], *, over: bool) -> dict[str, Json]:
    return {
        "id": lease.id,
        "created": rfc3339(lease.created),
        "lifetime": None if lease.lifetime is None else lease.lifetime / 1e9,
        "state": "over" if over else "live",
        "owner": lease.owner,
        "labels": dict(lease.labels),
        "holds": len(resources),
        "resources": [{"kind": r.kind, "id": r.id} for r in resources],
    }
