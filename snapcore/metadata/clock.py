"""Time that cannot be turned back: what a lease's end is measured by.

The wall clock jumps, so inside one boot only CLOCK_BOOTTIME counts (clock_gettime(2): it goes on
during suspend and nobody can set it). Between boots there is nothing but the wall clock, and it
is believed only as far as it goes forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from snapcore.linux import boot_id


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, on all clocks that matter.

    Attributes:
        wall: nanoseconds since the epoch.
        running: nanoseconds since the boot.
        boot: id of the boot.
    """

    wall: int
    running: int
    boot: str

    def since(self, earlier: Moment) -> int:
        """Return the nanoseconds from `earlier` until now; never less than 0."""
        if earlier.boot == self.boot:
            return max(0, self.running - earlier.running)
        return max(0, self.wall - earlier.wall)


Clock: TypeAlias = Callable[[], Moment]


def system_clock() -> Moment:
    """Return the present moment.

    Raises:
        OSError: /proc is not there.
    """
    return Moment(time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), boot_id())
