"""`images`: the images of this node."""

from __future__ import annotations

import click

from snapcore.cli.flags import Verbs
from snapcore.cli.images_commit import commit
from snapcore.cli.images_export import export
from snapcore.cli.images_import import import_
from snapcore.cli.images_index import index
from snapcore.cli.images_list import ls, record
from snapcore.cli.images_mount import mount, unmount
from snapcore.cli.images_remove import rm
from snapcore.cli.images_show import check, inspect
from snapcore.cli.images_status import status
from snapcore.cli.images_unpack import unpack
from snapcore.cli.output import write_record
from snapcore.cli.session import Session


@click.group(cls=Verbs)
def images() -> None:
    """Work with the images of this node."""


@images.command("tag")
@click.argument("source")
@click.argument("targets", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Move a name that another image has.")
@click.pass_context
def tag(context: click.Context, source: str, targets: tuple[str, ...], force: bool) -> None:
    """Give an image more names."""
    session = Session.of(context)
    with session.node() as node:
        for target in targets:
            write_record(session.format, record(node.tag(source, target, force=force)))


for _command in (
    ls,
    rm,
    check,
    inspect,
    status,
    index,
    mount,
    unmount,
    unpack,
    import_,
    export,
    commit,
):
    images.add_command(_command)
