"""`images index`: make indexes of an image's layers, and publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, size, write_rows
from snapcore.cli.pull import read_credentials
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.node import IndexedImage, IndexedLayer

_COLUMNS: Final = (
    Column("PLUGIN", "plugin"),
    Column("LAYER", "layer"),
    Column("SIZE", "size", size, right=True),
    Column("INDEX", "index_size", size, right=True),
    Column("PUBLISHED", "published"),
    Column("WHY NOT", "reason"),
)


@click.command("index", cls=Verb)
@click.argument("reference")
@click.option("--push", is_flag=True, help="Publish them beside the image in its registry.")
@click.option("--again", is_flag=True, help="Make those anew that are kept, as small as can be.")
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's.")
@click.option("--plain-http", is_flag=True, help="Speak HTTP without TLS.")
@click.option("-k", "--skip-verify", is_flag=True, help="Accept any certificate.")
@click.option("--creds", metavar="USER:PASSWORD", help="Credentials for this registry.")
@click.option("--creds-stdin", is_flag=True, help="Read USER:PASSWORD from stdin.")
@click.pass_context
def index(
    context: click.Context,
    reference: str,
    push: bool,
    again: bool,
    platform: str,
    plain_http: bool,
    skip_verify: bool,
    creds: str | None,
    creds_stdin: bool,
) -> None:
    """Make indexes by which an image's layers can be lazy.

    The layers' blobs must be here, unless an index is kept already. The indexes are kept as long
    as the image's manifest, and with --push published as its referrers.
    """
    from snapcore.cli.tasks import run
    from snapcore.node import IndexOptions, PushOptions, index_image, publish_indexes

    session = Session.of(context)
    options = PushOptions(
        plain_http=plain_http,
        skip_verify=skip_verify,
        credentials=read_credentials(creds, creds_stdin),
    )
    with session.node() as node:

        async def work() -> IndexedImage:
            made = await index_image(
                node, reference, IndexOptions(platform, tuple(session.snapshotters), again)
            )
            if push:
                await publish_indexes(node, made, options, session.environment)
            return made

        done = run(work)
    write_rows(session.format, _COLUMNS, [_record(layer, push) for layer in done.layers])


def _record(layer: IndexedLayer, published: bool) -> dict[str, Json]:
    return {
        "plugin": layer.plugin,
        "layer": str(layer.layer.digest),
        "size": layer.layer.size,
        "index": None if layer.index is None else str(layer.index.digest),
        "index_size": None if layer.index is None else layer.index.size,
        "published": published and layer.index is not None,
        "reason": layer.reason,
    }
