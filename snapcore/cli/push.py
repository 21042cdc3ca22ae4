"""`push`: from this node to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from snapcore.cli.flags import Verb
from snapcore.cli.output import Json, write_record
from snapcore.cli.pull import read_credentials
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.registry import Outgoing


@click.command(cls=Verb)
@click.argument("reference")
@click.argument("destination", default="")
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="Instead of this host's.")
@click.option("--all-platforms", is_flag=True, help="All of the image, which must be here.")
@click.option("--plain-http", is_flag=True, help="Speak HTTP without TLS.")
@click.option("-k", "--skip-verify", is_flag=True, help="Accept any certificate.")
@click.option("--creds", metavar="USER:PASSWORD", help="Credentials for this registry.")
@click.option("--creds-stdin", is_flag=True, help="Read USER:PASSWORD from stdin.")
@click.option("-q", "--quiet", is_flag=True, help="Print the digest only.")
@click.pass_context
def push(
    context: click.Context,
    reference: str,
    destination: str,
    platform: str,
    all_platforms: bool,
    plain_http: bool,
    skip_verify: bool,
    creds: str | None,
    creds_stdin: bool,
    quiet: bool,
) -> None:
    """Push an image to a registry.

    REFERENCE is pushed under its own name, or as DESTINATION.
    """
    from snapcore.cli.output import write_line
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run
    from snapcore.node import PushOptions

    if platform and all_platforms:
        raise InvalidArgument("give either --platform or --all-platforms, not both")
    session = Session.of(context)
    options = PushOptions(
        platform=platform,
        all_platforms=all_platforms,
        plain_http=plain_http,
        skip_verify=skip_verify,
        credentials=read_credentials(creds, creds_stdin),
    )
    with session.node() as node, reporter(session.progress, quiet) as events:

        async def work() -> Outgoing:
            return await node.push(reference, destination, options, events=events)

        done = run(work)
    if quiet:
        write_line(str(done.root.digest))
        return
    record: dict[str, Json] = {
        "name": done.name,
        "digest": str(done.root.digest),
        "media_type": done.root.media_type,
        "size": done.root.size,
    }
    write_record(session.format, record)
