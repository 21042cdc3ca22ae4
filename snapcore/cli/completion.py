"""`completion`: what makes a shell complete our verbs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from snapcore.cli.flags import Verb
from snapcore.cli.output import write_text

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell completion script.

    Load it with `source <(snapcore completion bash)`, or write it where your shell looks for
    completions.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root()
    write_text(kind(root.command, {}, "snapcore", "_SNAPCORE_COMPLETE").source())
