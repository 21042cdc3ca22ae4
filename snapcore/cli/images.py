"""`images`: the images of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verbs
from snapcore.cli.images_export import export
from snapcore.cli.images_import import import_
from snapcore.cli.images_mount import mount, unmount
from snapcore.cli.images_show import check, inspect
from snapcore.cli.images_status import status
from snapcore.cli.images_unpack import unpack
from snapcore.cli.output import Column, Json, write_line, write_record, write_rows
from snapcore.cli.session import Session
from snapcore.cli.text import rfc3339

if TYPE_CHECKING:
    from snapcore.metadata import Image

_LIST: Final = (Column("NAME", "name"), Column("DIGEST", "digest"), Column("UPDATED", "updated"))


@click.group(cls=Verbs)
def images() -> None:
    """Work with the images of this node."""


@images.command("ls")
@click.argument("filters", nargs=-1)
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@click.pass_context
def ls(context: click.Context, filters: tuple[str, ...], quiet: bool) -> None:
    """List images.

    FILTERS are containerd's, such as name~=debian; one of several must hold.
    """
    session = Session.of(context)
    with session.node() as node:
        found = node.images.list(filters)
    if quiet:
        for image in found:
            write_line(image.name)
    else:
        write_rows(session.format, _LIST, [_record(image) for image in found])


@images.command("rm")
@click.argument("references", nargs=-1, required=True)
@click.pass_context
def rm(context: click.Context, references: tuple[str, ...]) -> None:
    """Forget images by name; blobs and snapshots stay until they are collected."""
    with Session.of(context).node() as node:
        for reference in references:
            write_line(node.images.remove(reference).name)


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
            write_record(session.format, _record(node.tag(source, target, force=force)))


for _command in (check, inspect, status, mount, unmount, unpack, import_, export):
    images.add_command(_command)


def _record(image: Image) -> dict[str, Json]:
    return {
        "name": image.name,
        "digest": str(image.target.digest),
        "media_type": image.target.media_type,
        "size": image.target.size,
        "labels": dict(image.labels),
        "created": rfc3339(image.created),
        "updated": rfc3339(image.updated),
    }
