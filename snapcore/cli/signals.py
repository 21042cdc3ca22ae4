"""Signals in synchronous verbs: SIGTERM unwinds the stack as Ctrl-C does."""

from __future__ import annotations

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


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal(2)'s signature
    # A second one must not cut the clean-up short that the first one began.
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted(number)
