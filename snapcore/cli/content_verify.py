"""`content verify`: whether blobs are what their digests say, and mending those that are not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, write_rows
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.node import DamagedBlob, Node
    from snapcore.oci import Digest

_COLUMNS: Final = (
    Column("DIGEST", "digest"),
    Column("REPAIRED", "repaired"),
    Column("FILE", "path"),
    Column("REASON", "reason"),
    Column("TROUBLE", "trouble"),
)


@click.command("verify", cls=Verb)
@click.argument("digests", nargs=-1)
@click.option("--repair", is_flag=True, help="Set damaged blobs aside and fetch them again.")
@click.pass_context
def verify(context: click.Context, digests: tuple[str, ...], repair: bool) -> None:
    """Read blobs and name those whose bytes are wrong; all if no DIGESTS are given."""
    from snapcore.cli.exits import FAILED
    from snapcore.cli.tasks import run
    from snapcore.oci import Digest

    session = Session.of(context)
    parsed = [Digest.parse(digest) for digest in digests]
    with session.node() as node:
        found = run(partial(_verify, node, parsed, repair))
    write_rows(session.format, _COLUMNS, [_record(blob) for blob in found])
    if not all(blob.repaired for blob in found):
        context.exit(FAILED)


async def _verify(node: Node, digests: list[Digest], repair: bool) -> list[DamagedBlob]:
    import trio

    damaged = await trio.to_thread.run_sync(
        node.recovery.verify, digests, trio.from_thread.check_cancelled
    )
    if not repair:
        return list(damaged)
    return [await node.recovery.repair(blob) for blob in damaged]


def _record(blob: DamagedBlob) -> dict[str, Json]:
    return {
        "digest": str(blob.digest),
        "path": blob.path,
        "reason": blob.reason,
        "repaired": blob.repaired,
        "trouble": blob.trouble,
    }
