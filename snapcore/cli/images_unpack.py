"""`images unpack`: snapshots of what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from snapcore.cli.acquire import Wanted, shared_flags, write_results
from snapcore.cli.flags import Verb
from snapcore.cli.session import Session

if TYPE_CHECKING:
    from snapcore.node import PullResult


@click.command("unpack", cls=Verb)
@click.argument("reference")
@shared_flags
@click.pass_context
def unpack(
    context: click.Context,
    reference: str,
) -> None:
    """Unpack an image that is here, without any network."""
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run

    session = Session.of(context)
    wanted = Wanted.of(context)
    choice = wanted.choice(unpack=True)
    with (
        session.node(wanted.settings()) as node,
        reporter(session.progress, wanted.quiet) as events,
    ):

        async def work() -> list[PullResult]:
            return [await node.unpack(reference, choice, events=events)]

        results = run(work)
    write_results(session, results, quiet=wanted.quiet)
