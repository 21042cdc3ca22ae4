"""`snapshots diff`: what a snapshot has changed, as a layer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from snapcore.cli.epoch import source_date_epoch
from snapcore.cli.flags import Verb
from snapcore.cli.output import Json, write_bytes, write_record
from snapcore.cli.session import Session
from snapcore.cli.text import printable
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.archive import WrittenLayer

COMPRESSIONS: Final = ("gzip", "zstd", "none")
_SECOND: Final = 10**9


@click.command("diff", cls=Verb)
@click.argument("key")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; by default to stdout.")
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), default="gzip", help="[default: gzip]"
)
@click.option("--force", is_flag=True, help="Replace a file of this name.")
@click.pass_context
def diff(context: click.Context, key: str, output: str, compression: str, force: bool) -> None:
    """Write what a snapshot has changed of its parent, as a layer.

    KEY is a writable snapshot or a committed one. With SOURCE_DATE_EPOCH no time in the layer is
    later than that.
    """
    from snapcore.archive import Compression, DiffOptions
    from snapcore.registry import new_file

    session = Session.of(context)
    epoch = source_date_epoch(session.environment)
    options = DiffOptions(Compression(compression), None if epoch is None else epoch * _SECOND)
    if output == "-":
        if sys.stdout.isatty():
            raise InvalidArgument("a layer is not written to a terminal; redirect it, or use -o")
        with session.node() as node:
            made = node.diff(key, write_bytes, options, snapshotter=session.snapshotter)
        for name, value in layer_record(made).items():
            click.echo(printable(f"{name}: {value}"), err=True)
        return
    with session.node() as node, new_file(output, force=force) as write:
        made = node.diff(key, write, options, snapshotter=session.snapshotter)
    write_record(session.format, {"path": output, **layer_record(made)})


def layer_record(layer: WrittenLayer) -> dict[str, Json]:
    """Return a layer as members of a result."""
    return {
        "digest": str(layer.descriptor.digest),
        "media_type": layer.descriptor.media_type,
        "size": layer.descriptor.size,
        "diff_id": str(layer.diff_id),
        "uncompressed_size": layer.size,
        "entries": layer.entries,
        "skipped": dict(layer.skipped),
    }
