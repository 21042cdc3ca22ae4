"""Ending what takes too long: a snapshotter that deadlocks fails a check and stops no other."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from snapcore.conformance.harness import CheckFailed


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End a block that takes too long. Only the main thread can be ended; others are let be.

    Args:
        seconds: how long it may take; again a tenth of it, but a second at least, if cleaning up
            hangs too.

    Raises:
        CheckFailed: it took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise CheckFailed(f"it took more than {seconds:g} seconds, and was ended")

    before = signal.signal(signal.SIGALRM, end)
    # Somebody else's, a test runner's for example, goes on afterwards.
    begun = time.monotonic()
    rest, every = signal.setitimer(signal.ITIMER_REAL, seconds, max(1.0, seconds / 10))
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        # An alarm may have come just before it was turned off.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if rest:
            passed = time.monotonic() - begun
            signal.setitimer(signal.ITIMER_REAL, max(rest - passed, 0.001), every)
