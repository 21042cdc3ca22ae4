"""`images status`: which layers of an image are fetched when read, and how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, size, write_rows
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.node import LayerReport

_COLUMNS: Final = (
    Column("SNAPSHOTTER", "snapshotter"),
    Column("LAYER", "short"),
    Column("SIZE", "size", size, right=True),
    Column("STATUS", "status"),
    Column("FORMAT", "format"),
    Column("FETCHED", "fetched_bytes", size, right=True),
    Column("SERVED", "served_bytes", size, right=True),
    Column("WASTED", "wasted_bytes", size, right=True),
    Column("REQUESTS", "requests", right=True),
    Column("HITS", "hit_percent", right=True),
    Column("WHY", "why"),
)
_SHORT: Final = 19


@click.command("status", cls=Verb)
@click.argument("reference")
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's.")
@click.pass_context
def status(context: click.Context, reference: str, platform: str) -> None:
    """Show which layers of an image are fetched when they are read, and what was fetched.

    For every snapshotter that was used on this node, unless --snapshotter names some.
    """
    from snapcore.oci import Platform

    session = Session.of(context)
    wanted = Platform.parse(platform) if platform else Platform.local()
    with session.node() as node:
        reports = node.images.status(reference, wanted, session.snapshotters)
    write_rows(session.format, _COLUMNS, [_record(report) for report in reports])


def _record(report: LayerReport) -> dict[str, Json]:
    digest = str(report.layer.digest)
    record: dict[str, Json] = {
        "snapshotter": report.snapshotter,
        "layer": digest,
        "short": digest[:_SHORT],
        "size": report.layer.size,
        "chain_id": report.chain_id,
        "status": "absent",
        "format": "",
        "why": "",
    }
    counts = ("fetched", "served", "wasted")
    found = report.status
    if found is None:
        nothing = dict.fromkeys([f"{name}_bytes" for name in counts])
        return {**record, **nothing, "requests": None, "hit_percent": None, "hits": None}
    asked = found.hits + found.misses
    return {
        **record,
        "status": _word(lazy=found.lazy, complete=found.complete),
        "format": found.format,
        "why": found.error or found.reason,
        **{f"{name}_bytes": getattr(found, name) if found.lazy else None for name in counts},
        "requests": found.requests if found.lazy else None,
        "hits": found.hits if found.lazy else None,
        "hit_percent": round(100 * found.hits / asked, 1) if asked else None,
    }


def _word(*, lazy: bool, complete: bool) -> str:
    if not lazy:
        return "unpacked"
    return "complete" if complete else "lazy"
