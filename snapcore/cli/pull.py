"""`pull`: from a registry to snapshots."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from snapcore.cli.acquire import Wanted, shared_flags, write_results
from snapcore.cli.flags import Verb
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument

if TYPE_CHECKING:
    from snapcore.node import Policy, PullResult


@click.command(cls=Verb)
@click.argument("reference")
@click.option(
    "--policy",
    type=click.Choice(("always", "missing", "never")),
    default="always",
    show_default=True,
    help="Ask the registry always, only for what is not here, or never.",
)
@click.option("--no-unpack", is_flag=True, help="Fetch only.")
@click.option("--plain-http", is_flag=True, help="Speak HTTP without TLS.")
@click.option("-k", "--skip-verify", is_flag=True, help="Accept any certificate.")
@click.option("--creds", metavar="USER:PASSWORD", help="Credentials for this registry.")
@click.option("--creds-stdin", is_flag=True, help="Read USER:PASSWORD from stdin.")
@shared_flags
@click.pass_context
def pull(
    context: click.Context,
    reference: str,
    policy: str,
    no_unpack: bool,
    plain_http: bool,
    skip_verify: bool,
    creds: str | None,
    creds_stdin: bool,
) -> None:
    """Pull an image from a registry and unpack it.

    REFERENCE is [HOST/]REPOSITORY[:TAG][@DIGEST].
    """
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run
    from snapcore.node import PullOptions

    session = Session.of(context)
    wanted = Wanted.of(context)
    choice = wanted.choice(unpack=not no_unpack)
    credentials = read_credentials(creds, creds_stdin)
    options = PullOptions(
        choice=choice,
        policy=cast("Policy", policy),
        plain_http=plain_http,
        skip_verify=skip_verify,
        credentials=credentials,
    )
    with (
        session.node(wanted.settings()) as node,
        reporter(session.progress, wanted.quiet) as events,
    ):

        async def work() -> list[PullResult]:
            return [await node.pull(reference, options, events=events)]

        results = run(work)
    write_results(session, results, quiet=wanted.quiet)


def read_credentials(given: str | None, from_stdin: bool) -> tuple[str, str] | None:
    """Return user and password from `--creds` or `--creds-stdin`, None if neither was given.

    Raises:
        InvalidArgument: both were, or they are malformed.
    """
    if given is not None and from_stdin:
        raise InvalidArgument("give either --creds or --creds-stdin, not both")
    text = sys.stdin.readline().rstrip("\r\n") if from_stdin else given
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not user or not colon:
        # Never shown: a password may stand where the user's name should.
        raise InvalidArgument("credentials must be written USER:PASSWORD")
    return user, password
