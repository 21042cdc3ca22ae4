"""`digest`: the canonical digest of a directory tree."""

from __future__ import annotations

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import write_json, write_line
from snapcore.cli.session import Session


@click.command(cls=Verb)
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--list", "listing", is_flag=True, help="Print the lines that are digested instead.")
@click.pass_context
def digest(context: click.Context, directory: str, listing: bool) -> None:
    """Print the canonical digest of a directory tree.

    The same image gives the same digest on every snapshotter.
    """
    from snapcore.archive import tree_digest, tree_listing

    if listing:
        for line in tree_listing(directory):
            write_line(line)
        return
    found = tree_digest(directory)
    if Session.of(context).format == "json":
        write_json({"digest": str(found.digest), "entries": found.entries, "bytes": found.size})
    else:
        write_line(str(found.digest))
