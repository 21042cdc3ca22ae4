"""`images unpack` and `images import`: snapshots of what is here or in a directory."""

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
    platform: str,
    discard: bool | None,
    labels: tuple[str, ...],
    downloads: int | None,
    quiet: bool,
) -> None:
    """Unpack an image that is here, without any network."""
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run

    session = Session.of(context)
    wanted = Wanted(platform, discard, labels, True, downloads, quiet)
    choices = wanted.choices(session)
    with session.node(wanted.settings()) as node, reporter(session.progress, quiet) as events:

        async def work() -> list[PullResult]:
            return [await node.unpack(reference, choice, events=events) for choice in choices]

        results = run(work)
    write_results(session, results, quiet=quiet)


@click.command("import", cls=Verb)
@click.argument("layout", type=click.Path(exists=True, file_okay=False))
@click.option("--name", default="", help="Repository; with a tag if there is one image.")
@click.option("--no-unpack", is_flag=True, help="Copy the blobs only.")
@shared_flags
@click.pass_context
def import_(
    context: click.Context,
    layout: str,
    name: str,
    no_unpack: bool,
    platform: str,
    discard: bool | None,
    labels: tuple[str, ...],
    downloads: int | None,
    quiet: bool,
) -> None:
    """Import the images of an OCI layout directory and unpack them.

    Without --name an image is called localhost/DIRECTORY:TAG.
    """
    from snapcore.cli.progress import reporter
    from snapcore.cli.tasks import run

    session = Session.of(context)
    wanted = Wanted(platform, discard, labels, not no_unpack, downloads, quiet)
    first, *others = wanted.choices(session)
    with session.node(wanted.settings()) as node, reporter(session.progress, quiet) as events:

        async def work() -> list[PullResult]:
            results = list(await node.import_(layout, name=name, choice=first, events=events))
            return results + [
                await node.unpack(result.reference, choice, events=events)
                for result in results
                for choice in others
            ]

        results = run(work)
    write_results(session, results, quiet=quiet)
