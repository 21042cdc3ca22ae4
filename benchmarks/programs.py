"""Running other programs, and ending them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

INSTALL: Final = "`python3 scripts/setup.py --bench` as root installs it"
_PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
_STOP_SECONDS: Final = 20
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


class Failed(SystemExit):
    """A program is missing or fails; with what it said. Uncaught, it ends us with that."""


def find(program: str) -> str | None:
    """Return where a program is, looking where only root's PATH looks too; None if nowhere."""
    return shutil.which(program, path=_PATH)


def run(
    *command: str,
    stdin: int | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program and return what it prints.

    Args:
        command: program and arguments.
        stdin: descriptor of its input; nothing if None.
        environment: variables besides the inherited ones.
        cwd: where it runs; here if None.

    Raises:
        Failed: it is missing or fails.
    """
    if find(command[0]) is None:
        raise Failed(f"{command[0]} is not installed: {INSTALL}")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {}), "PATH": _PATH},
        cwd=cwd,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise Failed(f"{' '.join(command)} failed: {said}")
    return done.stdout


def stop(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """End a process that leads a session, and whatever of that session does not end with it.

    Args:
        process: started with `start_new_session`; may have ended.
        first: how it is asked; it has 20 seconds.
    """
    if process.poll() is None:
        process.send_signal(first)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end us once, so that a second one does not disturb clearing away."""
    for number in _ENDING:
        signal.signal(number, _end)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off until the end of a `with` block, which clears away."""
    late: list[int] = []
    before = {
        number: signal.signal(number, lambda given, _: late.append(given)) for number in _ENDING
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if late:
            signal.raise_signal(late[0])


def _end(number: int, _frame: object) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    say("clearing away")
    sys.exit(128 + number)


def say(text: str) -> None:
    """Tell the person at the terminal how far things are."""
    print(text, file=sys.stderr, flush=True)
