"""Signals in synchronous verbs: SIGTERM unwinds the stack as Ctrl-C does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from snapcore.cli.exits import Interrupted


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Interrupted` where a SIGTERM finds us, for the duration of a `with` block."""
    previous = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def wait_for_signal() -> None:
    """Wait, in the main thread, until the handler of a signal raises.

    Waiting for a lock may go on for ever: the system may have another thread take the signal, or
    this one just before it waits, and neither ends the wait (signal.set_wakeup_fd).
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(tell, False)
    previous = signal.set_wakeup_fd(tell)
    try:
        while True:
            os.read(told, 1)
    finally:
        signal.set_wakeup_fd(previous)
        for descriptor in (told, tell):
            os.close(descriptor)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal(2)'s signature
    # A second one must not cut the clean-up short that the first one began.
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted(number)
