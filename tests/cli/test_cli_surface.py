"""The surface: the table of verbs tells the truth, and every verb and flag is documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.cli import spawn

from snapcore.cli.app import MEMBERS, app
from snapcore.cli.flags import Verb, Verbs, global_options
from snapcore.config import KEYS

DOCS = Path(__file__).resolve().parents[2] / "docs"
VERBS = {
    "pull",
    "push",
    *(
        f"images {verb}"
        for verb in (
            *(
                "ls",
                "rm",
                "tag",
                "check",
                "inspect",
                "status",
                "index",
                "mount",
                "unmount",
                "commit",
                "unpack",
                "import",
                "export",
            ),
        )
    ),
    *(
        f"snapshots {verb}"
        for verb in (
            *(
                "ls",
                "tree",
                "info",
                "usage",
                "prepare",
                "view",
                "commit",
                "mounts",
                "label",
                "rm",
                "verify",
                "diff",
            ),
        )
    ),
    *(f"content {verb}" for verb in ("ls", "get", "info", "label", "rm", "verify")),
    *(f"leases {verb}" for verb in ("create", "hold", "ls", "rm")),
    "gc",
    "plugins ls",
    "plugins new",
    "serve",
    "conformance",
    "doctor",
    "config show",
    "config containerd",
    "digest",
    "completion",
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its name below `snapcore`."""
    with click.Context(app, info_name="snapcore") as context:
        pending: list[tuple[str, click.Command]] = []
        for name in app.list_commands(context):
            command = app.get_command(context, name)
            assert command is not None
            pending.append((name, command))
        while pending:
            name, command = pending.pop(0)
            if isinstance(command, click.Group):
                pending += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
            else:
                yield name, command


def test_all_verbs_are_there() -> None:
    assert {name for name, _ in commands()} == VERBS


@pytest.mark.parametrize("name", MEMBERS)
def test_help_of_the_table_is_the_commands_own(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    assert MEMBERS[name].help == (command.help or "").partition("\n")[0]


def test_every_verb_takes_the_global_flags() -> None:
    for name, command in commands():
        assert isinstance(command, Verb | Verbs), name
        own = {parameter.name for parameter in command.params}
        shared = {parameter.name for parameter in global_options(hidden=True)}
        assert not own & shared, f"{name} hides a global flag"


def test_every_verb_and_flag_is_documented() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in commands():
        heading = f"### snapcore {name}\n"
        assert heading in text, f"docs/cli.md lacks {heading!r}"
        section = text.partition(heading)[2].partition("\n##")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for flag in parameter.opts:
                    assert f"`{flag}" in section, f"docs/cli.md: {name} lacks {flag}"
    for option in global_options(hidden=False):
        assert f"`{option.opts[0]}" in text


def test_documentation_names_no_verb_that_is_not_there() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    documented = {
        line.removeprefix("### snapcore ")
        for line in text.splitlines()
        if line.startswith("### snapcore ")
    }
    assert documented == VERBS


def test_every_key_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for key, spec in KEYS.items():
        assert f"`{key}`" in text, f"docs/configuration.md lacks {key}"
        assert spec.help in text, f"docs/configuration.md lacks the meaning of {key}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    outcome = spawn("completion", shell)
    assert outcome.code == 0
    assert "_SNAPCORE_COMPLETE" in outcome.out
    assert "snapcore" in outcome.out


def test_completion_answers() -> None:
    environment = {
        "_SNAPCORE_COMPLETE": "bash_complete",
        "COMP_WORDS": "snapcore images un",
        "COMP_CWORD": "2",
    }
    outcome = spawn(environment=environment)
    assert [line.partition(",")[2] for line in outcome.out.splitlines()] == ["unmount", "unpack"]


def test_unknown_shell() -> None:
    outcome = spawn("completion", "tcsh")
    assert outcome.code == 2
    assert "tcsh" in outcome.err
