"""`config show`: each value and where it came from."""

from __future__ import annotations

import click

from snapcore.cli.config_containerd import containerd
from snapcore.cli.flags import Verbs
from snapcore.cli.output import Column, write_rows
from snapcore.cli.session import Session

_COLUMNS = (Column("KEY", "key"), Column("VALUE", "value"), Column("ORIGIN", "origin"))


@click.group(cls=Verbs)
def config() -> None:
    """Work with the configuration."""


@config.command("show")
@click.pass_context
def show(context: click.Context) -> None:
    """Print each value and where it came from."""
    session = Session.of(context)
    rows = [
        {"key": setting.key, "value": setting.value, "origin": setting.origin}
        for setting in session.load().settings
    ]
    write_rows(session.format, _COLUMNS, rows)


config.add_command(containerd)
