"""The options that every verb takes, before or after its name, and what was given of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import click
from click.core import ParameterSource

from snapcore.cli.logs import set_up

_META: Final = "snapcore.flags"
Given: TypeAlias = "str | tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Flag:
    """One option that was given.

    Attributes:
        value: as typed; a tuple for an option that may be repeated.
        origin: `flag --root` or `env SNAPCORE_ROOT`.
    """

    value: Given
    origin: str


@dataclass(frozen=True, slots=True)
class _Spec:
    name: str
    help: str
    envvar: str | None = None
    choices: tuple[str, ...] = ()
    repeat: bool = False
    metavar: str | None = None


_SPECS: Final = (
    _Spec("root", "Directory of all lasting state.", "SNAPCORE_ROOT", metavar="DIR"),
    _Spec("state", "Directory of what need not survive a reboot.", metavar="DIR"),
    _Spec("config", "Config file.", "SNAPCORE_CONFIG", metavar="FILE"),
    _Spec(
        "snapshotter",
        "Snapshotter to use; may be repeated, the first is used by verbs that need one.",
        repeat=True,
        metavar="NAME",
    ),
    _Spec(
        "node-label",
        "Label that [[node]] tables match; may be repeated.",
        repeat=True,
        metavar="KEY=VALUE",
    ),
    _Spec("format", "How results are written.  [default: table]", choices=("table", "json")),
    _Spec(
        "log-level",
        "What is told on stderr.  [default: warning]",
        choices=("debug", "info", "warning", "error"),
    ),
    _Spec(
        "progress",
        "How progress is shown on stderr.  [default: auto]",
        choices=("auto", "plain", "none"),
    ),
)


def global_options(*, hidden: bool) -> list[click.Parameter]:
    """Return fresh options for one command."""
    return [_option(spec, hidden) for spec in _SPECS]


def given(context: click.Context) -> dict[str, Flag]:
    """Return what was given of the global options, by name; the last place wins."""
    return cast(dict[str, Flag], context.meta.setdefault(_META, {}))


class Verb(click.Command):
    """A command that takes the global options too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options and the global ones, which help does not repeat."""
        return [*super().get_params(ctx), *global_options(hidden=True)]

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, with logging set up."""
        level = given(ctx).get("log-level")
        set_up(str(level.value) if level else "warning")
        return super().invoke(ctx)


class Verbs(click.Group):
    """A group of verbs that takes the global options too."""

    command_class = Verb

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the group's own options and the global ones, which help does not repeat."""
        return [*super().get_params(ctx), *global_options(hidden=True)]


def _option(spec: _Spec, hidden: bool) -> click.Option:
    return click.Option(
        [f"--{spec.name}"],
        help=spec.help,
        envvar=spec.envvar,
        type=click.Choice(spec.choices) if spec.choices else str,
        multiple=spec.repeat,
        metavar=spec.metavar,
        expose_value=False,
        hidden=hidden,
        callback=_remember(spec),
    )


def _remember(spec: _Spec) -> Callable[[click.Context, click.Parameter, Given | None], None]:
    def remember(context: click.Context, parameter: click.Parameter, value: Given | None) -> None:
        source = context.get_parameter_source(str(parameter.name))
        found = given(context)
        if value is None or source is ParameterSource.DEFAULT:
            return
        if source is ParameterSource.COMMANDLINE:
            found[spec.name] = Flag(value, f"flag --{spec.name}")
        elif spec.name not in found:
            found[spec.name] = Flag(value, f"env {spec.envvar}")

    return remember
