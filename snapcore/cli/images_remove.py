"""`images rm`: forget images, and say what that frees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Json, write_json, write_line
from snapcore.cli.session import Session
from snapcore.cli.text import human_size, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snapcore.gc import Released, Report, Thing
    from snapcore.metadata import Image


@click.command("rm", cls=Verb)
@click.argument("references", nargs=-1, required=True)
@click.option("--sync", is_flag=True, help="Collect garbage at once.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only, and count nothing.")
@click.pass_context
def rm(context: click.Context, references: tuple[str, ...], sync: bool, quiet: bool) -> None:
    """Forget images by name, and say what that frees and who keeps the rest.

    Blobs and snapshots stay until they are collected: at once with --sync.
    """
    from snapcore.cli.exits import FAILED

    session = Session.of(context)
    removed: list[Image] = []
    with session.node(freeing=True) as node:
        try:
            removed.extend(node.images.remove(reference) for reference in references)
        finally:
            if session.format != "json":
                for image in removed:
                    write_line(image.name)
        found = None if quiet else node.garbage.released(removed)
        report = node.garbage.collect() if sync else None
    if session.format == "json":
        write_json(_record(removed, found, report))
    elif found is not None:
        _say(found, report)
    for thing, reason in report.failed.items() if report else ():
        click.echo(printable(f"snapcore: cannot remove {thing}: {reason}"), err=True)
    if report and report.failed:
        context.exit(FAILED)


def _say(found: Released, report: Report | None) -> None:
    if report is None:
        write_line(f"a collection will free {_amount(len(found.garbage), found.size)}")
    else:
        write_line(f"freed {_amount(len(report.removed), report.size)}")
    for root, size in found.shared.items():
        write_line(f"{root} keeps {human_size(size)} of it")


def _amount(count: int, size: int) -> str:
    return f"{human_size(size)} ({count} {'thing' if count == 1 else 'things'})"


def _record(
    removed: Sequence[Image], found: Released | None, report: Report | None
) -> dict[str, Json]:
    record: dict[str, Json] = {"names": [image.name for image in removed]}
    if found is not None:
        record["garbage"] = [_thing(thing, size) for thing, size in found.garbage.items()]
        record["size"] = found.size
        record["shared"] = [_thing(root, size) for root, size in found.shared.items()]
    if report is not None:
        record["removed"] = [_thing(item.thing, item.size) for item in report.removed]
        record["freed"] = report.size
    return record


def _thing(thing: Thing, size: int) -> dict[str, Json]:
    return {"kind": str(thing.kind), "id": thing.id, "snapshotter": thing.scope, "size": size}
