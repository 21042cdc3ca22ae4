"""`images import`: from a layout directory or an archive to snapshots."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from snapcore.cli.acquire import Wanted, shared_flags, write_results
from snapcore.cli.flags import Verb
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.node import PullResult


@click.command("import", cls=Verb)
@click.argument("source", type=click.Path(exists=True, allow_dash=True))
@click.option("--name", default="", help="Repository; with a tag if there is one image.")
@click.option("--no-unpack", is_flag=True, help="Copy the blobs only.")
@shared_flags
@click.pass_context
def import_(
    context: click.Context,
    source: str,
    name: str,
    no_unpack: bool,
) -> None:
    """Import the images of a layout directory or an archive and unpack them.

    SOURCE is an OCI layout directory, or an archive ("-" for stdin): an OCI layout in a tar, or
    what `docker save` writes, plain, gzip or zstd. Without --name images keep the names that
    their author gave them; those without are called localhost/SOURCE:TAG.
    """
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run

    session = Session.of(context)
    opened = _stdin() if source == "-" else source
    wanted = Wanted.of(context)
    choice = wanted.choice(unpack=not no_unpack)
    with (
        session.node(wanted.settings()) as node,
        reporter(session.progress, wanted.quiet) as events,
    ):

        async def work() -> list[PullResult]:
            return list(await node.import_(opened, name=name, choice=choice, events=events))

        results = run(work)
    write_results(session, results, quiet=wanted.quiet)


def _stdin() -> int:
    if sys.stdin.isatty():
        raise InvalidArgument("an image archive is read from stdin, but stdin is a terminal")
    return sys.stdin.fileno()
