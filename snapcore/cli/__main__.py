"""The entry point: run a verb, and turn whatever comes out into an exit code."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Final

import click

from snapcore.cli.app import app
from snapcore.cli.exits import (
    OK,
    USAGE,
    Interrupted,
    as_ours,
    culprit,
    exit_code,
    sentence,
)
from snapcore.cli.output import flush
from snapcore.cli.signals import terminable
from snapcore.faults import arm_as_told

_COMPLETE = "_SNAPCORE_COMPLETE"
_STDOUT: Final = 1
_log = logging.getLogger("snapcore.cli")


def main() -> None:
    """Run the command line of this process and exit with its code."""
    arm_as_told(os.environ)
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
            flush()
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
    _give_up_stdout()
    if isinstance(cause, BrokenPipeError) and _reader_is_gone():
        # As under `head`: that needs no words.
        return 128 + signal.SIGPIPE
    ours = as_ours(cause)
    _log.debug("the failure below came from here", exc_info=error)
    print(f"snapcore: {sentence(ours)}", file=sys.stderr)
    return exit_code(ours)


def _reader_is_gone() -> bool:
    """Tell whether stdout is the pipe that broke, and not one to a helper program."""
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _give_up_stdout() -> None:
    """Write what is still buffered; if that fails, keep it from failing once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        # Not file descriptor 1, which may still be asked why it failed.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as we live


if __name__ == "__main__":
    main()
