"""`images commit`: an image of a changed snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from snapcore.cli.epoch import source_date_epoch
from snapcore.cli.flags import Verb
from snapcore.cli.output import Json, write_line, write_record
from snapcore.cli.session import Session
from snapcore.cli.snapshots_diff import COMPRESSIONS, layer_record

if TYPE_CHECKING:
    from snapcore.node import CommittedImage


@click.command("commit", cls=Verb)
@click.argument("key")
@click.argument("name")
@click.option("--base", default="", metavar="REFERENCE", help="The image that KEY stands on.")
@click.option("--author", default="", metavar="TEXT", help="Who made it.")
@click.option("--message", default="", metavar="TEXT", help="What was done.")
@click.option(
    "--change",
    "changes",
    multiple=True,
    metavar="INSTRUCTION",
    help="An instruction of a Dockerfile, such as 'CMD [\"sh\"]'; may be repeated.",
)
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), default="gzip", help="[default: gzip]"
)
@click.option("--no-unpack", is_flag=True, help="Do not make the snapshot of the new image.")
@click.option("--force", is_flag=True, help="Move a name that another image has.")
@click.option("-q", "--quiet", is_flag=True, help="Print the digest only, and no progress.")
@click.pass_context
def commit(
    context: click.Context,
    key: str,
    name: str,
    base: str,
    author: str,
    message: str,
    changes: tuple[str, ...],
    compression: str,
    no_unpack: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Make an image of the writable snapshot KEY, which stays as it is.

    What was written becomes a layer on top of the image that the snapshot was made of. With
    SOURCE_DATE_EPOCH, the same files give the same image.
    """
    from snapcore.archive import Compression
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run
    from snapcore.node import CommitOptions

    session = Session.of(context)
    options = CommitOptions(
        snapshotter=session.snapshotter,
        base=base,
        author=author,
        comment=message,
        changes=changes,
        compression=Compression(compression),
        epoch=source_date_epoch(session.environment),
        unpack=not no_unpack,
        force=force,
    )
    with session.node() as node, reporter(session.progress, quiet) as events:

        async def work() -> CommittedImage:
            return await node.commit(key, name, options, events=events)

        made = run(work)
    if quiet:
        write_line(str(made.descriptor.digest))
        return
    record: dict[str, Json] = {
        "name": made.reference,
        "digest": str(made.descriptor.digest),
        "media_type": made.descriptor.media_type,
        "size": made.descriptor.size,
        "config": str(made.config.digest),
        "chain_id": made.chain_id,
        "base": str(made.base.digest) if made.base else None,
        "layer": layer_record(made.layer),
    }
    write_record(session.format, record)
