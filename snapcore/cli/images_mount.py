"""`images mount` and `images unmount`: an image's root filesystem at a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Column, Json, write_record, write_rows
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.metadata import MountRecord

_LIST: Final = (
    Column("TARGET", "target"),
    Column("IMAGE", "image"),
    Column("SNAPSHOTTER", "snapshotter"),
    Column("KEY", "key"),
    Column("WRITABLE", "rw"),
)


@click.command("mount", cls=Verb)
@click.argument("reference", required=False)
@click.argument("directory", required=False)
@click.option("--rw", is_flag=True, help="Mount a writable snapshot of its own.")
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's.")
@click.pass_context
def mount(
    context: click.Context,
    reference: str | None,
    directory: str | None,
    rw: bool,
    platform: str,
) -> None:
    """Mount an image at a directory; without arguments, list what is mounted."""
    session = Session.of(context)
    if reference is None:
        with session.node() as node:
            mounted = node.mounts()
        write_rows(session.format, _LIST, [_record(record) for record in mounted])
        return
    if directory is None:
        raise InvalidArgument(f"where should {reference!r} be mounted? Give a DIRECTORY")
    with session.node() as node:
        made = node.mount(
            reference, directory, rw=rw, snapshotter=session.snapshotter, platform=platform
        )
    write_record(session.format, _record(made))


@click.command("unmount", cls=Verb)
@click.argument("directory")
@click.option("--rm", "remove", is_flag=True, help="Remove what was written with --rw too.")
@click.pass_context
def unmount(context: click.Context, directory: str, remove: bool) -> None:
    """Undo a mount; a writable snapshot stays unless --rm is given."""
    session = Session.of(context)
    with session.node(freeing=True) as node:
        gone = node.unmount(directory, remove=remove)
    write_record(session.format, _record(gone))


def _record(record: MountRecord) -> dict[str, Json]:
    return {
        "target": record.target,
        "image": record.image,
        "snapshotter": record.snapshotter,
        "key": record.key,
        "rw": record.rw,
    }
