"""A group whose verbs are imported when they run, so that `--help` costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import click

from snapcore.cli.flags import Verbs, global_options


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a verb is, and what help says of it without importing it.

    Attributes:
        module: below `snapcore.cli`.
        attribute: the command in that module.
        help: its one-line help; a test compares it with the command's own.
    """

    module: str
    attribute: str
    help: str


class LazyVerbs(Verbs):
    """The top group: its members come from a table."""

    def __init__(self, name: str, members: Mapping[str, Lazy], **settings: object) -> None:
        super().__init__(name, **settings)  # type: ignore[arg-type]  # click types each keyword
        self.members: Final = members

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the verbs' names in the table's order."""
        return list(self.members)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """Import a verb."""
        member = self.members.get(cmd_name)
        if member is None:
            return None
        module = importlib.import_module(f"snapcore.cli.{member.module}")
        command = getattr(module, member.attribute)
        assert isinstance(command, click.Command)
        return command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the global options, shown in help here and nowhere else."""
        return [*click.Command.get_params(self, ctx), *global_options(hidden=False)]

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of verbs from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, member.help) for name, member in self.members.items()])
