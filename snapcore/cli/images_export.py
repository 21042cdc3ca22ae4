"""`images export`: images to a layout directory or an archive."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import write_record
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.registry import Outgoing


@click.command("export", cls=Verb)
@click.argument("references", nargs=-1, required=True)
@click.argument("out")
@click.option(
    "--as",
    "kind",
    type=click.Choice(("directory", "oci", "docker")),
    help="A layout directory, a layout in a tar, or a docker archive.  [default: by OUT]",
)
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's.")
@click.option("--all-platforms", is_flag=True, help="All of each image, which must be here.")
@click.option("--force", is_flag=True, help="Replace an archive of this name.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.pass_context
def export(
    context: click.Context,
    references: tuple[str, ...],
    out: str,
    kind: str | None,
    platform: str,
    all_platforms: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Write images to a layout directory or an archive ("-" for stdout).

    Without --as, OUT is a directory if it ends in "/" or is one, and else a layout in a tar.
    """
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run

    if platform and all_platforms:
        raise InvalidArgument("give either --platform or --all-platforms, not both")
    session = Session.of(context)
    chosen = kind or ("directory" if out.endswith("/") or os.path.isdir(out) else "oci")
    target = _stdout() if out == "-" else out
    with session.node() as node, reporter(session.progress, quiet) as events:

        async def work() -> tuple[Outgoing, ...]:
            return await node.export(
                references,
                target,
                kind=chosen,
                platform=platform,
                all_platforms=all_platforms,
                force=force,
                events=events,
            )

        done = run(work)
    if out != "-" and not quiet:
        names = [image.name for image in done]
        digests = [str(image.root.digest) for image in done]
        record = {"path": out, "kind": chosen, "names": names, "digests": digests}
        write_record(session.format, record)


def _stdout() -> int:
    if sys.stdout.isatty():
        raise InvalidArgument("an archive is not written to a terminal; redirect stdout")
    return sys.stdout.fileno()
