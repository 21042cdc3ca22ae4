"""Whole requests again, after a wait, as often as the policy says."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import stamina

from snapcore.errors import Unavailable
from snapcore.registry.failures import Transient

_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient we are with a peer.

    Attributes:
        attempts: tries in a row without any progress, the first included.
        wait_initial: seconds before the second try; doubled for each next one.
        wait_max: most seconds between two tries when the peer does not name a time.
        jitter: most random seconds added to each such wait.
    """

    attempts: int = 5
    wait_initial: float = 0.2
    wait_max: float = 5.0
    jitter: float = 0.5

    async def run(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Await `call()`, again while it fails with `Transient`, and return its result.

        A peer that names a time (Retry-After) is waited for that long, within its cap. Waits
        are trio sleeps, so trio's clock rules them and a cancel ends them.

        Raises:
            Unavailable: the last try failed as well; the message is that of the last failure.
        """
        try:
            async for attempt in stamina.retry_context(
                on=_wait,
                attempts=self.attempts,
                timeout=None,
                wait_initial=self.wait_initial,
                wait_max=self.wait_max,
                wait_jitter=self.jitter,
            ):
                with attempt:
                    return await call()
        except Transient as error:
            tries = f"; gave up after {self.attempts} tries" if self.attempts > 1 else ""
            raise Unavailable(f"{error}{tries}") from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def _wait(error: Exception) -> bool | float:
    if not isinstance(error, Transient):
        return False
    _LOG.info("%s", error)
    return True if error.retry_after is None else error.retry_after
