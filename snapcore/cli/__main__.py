"""The entry point: run a verb, and turn whatever comes out into an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import click

from snapcore.cli.app import app
from snapcore.cli.exits import (
    OK,
    USAGE,
    Interrupted,
    as_ours,
    culprit,
    exit_code,
    is_closed_pipe,
    sentence,
)
from snapcore.cli.signals import terminable

_COMPLETE = "_SNAPCORE_COMPLETE"
_log = logging.getLogger("snapcore.cli")


def main() -> None:
    """Run the command line of this process and exit with its code."""
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(app, {}, "snapcore", _COMPLETE, instruction))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing but that leaves this function."""
    try:
        with terminable():
            invoke(arguments)
            sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup, Interrupted) as error:  # noqa: BLE001 - the edge
        return _report(error)
    return OK


def invoke(arguments: Sequence[str]) -> None:
    """Run one command line.

    Not `app.main`: that would map interrupts and closed pipes by click's rules, not by ours.

    Raises:
        ClickException: the command line is wrong.
        SnapcoreError: the verb failed.
        Interrupted: a signal came.
    """
    with app.make_context("snapcore", list(arguments)) as context:
        app.invoke(context)


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return USAGE
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" (see {context.command_path} --help)" if context else ""
    message = " ".join(error.format_message().split()).rstrip(".")
    print(f"snapcore: {message}{where}", file=sys.stderr)
    return USAGE


def _report(error: BaseException) -> int:
    cause = culprit(error)
    _silence_stdout()
    if is_closed_pipe(cause):
        return 128 + signal.SIGPIPE
    ours = as_ours(cause)
    _log.debug("the failure below came from here", exc_info=error)
    print(f"snapcore: {sentence(ours)}", file=sys.stderr)
    return exit_code(ours)


def _silence_stdout() -> None:
    """Keep what is still buffered, and cannot be written, from failing once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


if __name__ == "__main__":
    main()
