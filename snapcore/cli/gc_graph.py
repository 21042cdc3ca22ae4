"""`gc --graph`: what keeps what, drawn into a file."""

from __future__ import annotations

import click

from snapcore.cli.output import write_line
from snapcore.cli.session import Session
from snapcore.cli.text import printable


def form_of(path: str) -> str:
    """Return what a file's name says that it holds.

    Raises:
        click.BadParameter: no such form.
    """
    from snapcore.gc.render import FORMS

    form = path.rpartition(".")[2].lower()
    if form not in FORMS:
        endings = ", ".join(f".{name}" for name in FORMS)
        raise click.BadParameter(f"{path!r} ends in none of {endings}")
    return form


def write_graph(session: Session, path: str) -> None:
    """Draw what keeps what into a file, and name the file.

    Raises:
        click.BadParameter: the name's ending is none of ours.
        SnapcoreError: something could not be read, or the file not written.
    """
    from snapcore.errors import from_os_error
    from snapcore.gc.render import render

    form = form_of(path)
    with session.node() as node:
        unopened = node.garbage.unopened()
        text = render(node.garbage.graph(), form, unopened)
    for name, reason in unopened.items():
        click.echo(printable(f"snapcore: snapshotter {name!r} is left out: {reason}"), err=True)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise from_os_error(error, f"drawing {path!r}") from error
    write_line(path)
