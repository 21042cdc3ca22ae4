"""Whether to ask a host at all: after failures in a row it is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

STRIKES: Final = 3
"""After so many failures in a row a host is left alone."""
PAUSE_SECONDS: Final = 15.0
"""So long it is left alone; then one request, and one more after each further pause, probes it."""


class Breaker:
    """What is known of one host's health. For one trio run; not thread-safe.

    Args:
        strikes: failures in a row that open it.
        pause: seconds until a probe, and between probes.
        clock: seconds; trio's own by default.
    """

    __slots__ = ("_clock", "_failures", "_pause", "_probe_at", "_strikes")

    def __init__(
        self,
        strikes: int = STRIKES,
        pause: float = PAUSE_SECONDS,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._strikes: Final = strikes
        self._pause: Final = pause
        self._clock: Final = clock
        self._failures = 0
        self._probe_at = 0.0

    def admits(self) -> bool:
        """Tell whether a request may go out now; whoever hears yes sends it.

        Of those who ask while the host is left alone, one is admitted after each pause. A probe
        that never reports back, since it was cancelled, just leaves it to the next.
        """
        if self._failures < self._strikes:
            return True
        if self._clock() < self._probe_at:
            return False
        self._probe_at = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        """Note a good answer: everybody is admitted again."""
        self._failures = 0

    def failed(self) -> None:
        """Note that the host did not serve."""
        self._failures += 1
        self._probe_at = self._clock() + self._pause

    def distrust(self) -> None:
        """Note an answer that proved wrong: nobody asks again before the pause is over."""
        self._failures = max(self._failures, self._strikes - 1)
        self.failed()
