"""Moving the wall clock of this process, as administrators and time servers do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

_DAY: Final = 24 * 3600


class WallClock:
    """What `time.time` and `time.time_ns` tell; other clocks go on.

    Attributes:
        days: how far it is off.
    """

    def __init__(self) -> None:
        self.days = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have this clock for the duration of the block."""
        seconds, nanoseconds = time.time, time.time_ns
        with (
            patch.object(time, "time", lambda: seconds() + self.days * _DAY),
            patch.object(time, "time_ns", lambda: nanoseconds() + self.days * _DAY * 10**9),
        ):
            yield
