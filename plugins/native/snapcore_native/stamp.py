"""Telling what changed since a copy, without looking at the original.

After a copy, one moment is written down that lies after every ctime in the copy and not after
any later one. What has a ctime of that moment or later was written, changed or made since: the
*delta*. ctime cannot be set by anybody, and inode numbers, sizes or times that an applied layer
chooses do not enter. Only a system clock that jumps back makes the delta too small.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from snapcore.errors import DataLoss

_TICK_SECONDS: Final = 0.001


def write_stamp(path: str, checkpoint: Callable[[], None]) -> int:
    """Write down, in a new file at `path`, the moment at which a copy ended.

    ctime moves by clock ticks of up to 10 ms (kernel, Documentation/filesystems/multigrain-ts);
    this waits for the next tick, so that the copy lies before it and all changes do not.

    Returns:
        The moment, in nanoseconds as ctime counts them.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(descriptor).st_ctime_ns
        while True:
            os.utime(descriptor)
            moment = os.fstat(descriptor).st_ctime_ns
            if moment > before:
                break
            checkpoint()
            time.sleep(_TICK_SECONDS)
        os.write(descriptor, b"%d\n" % moment)
    finally:
        os.close(descriptor)
    return moment


def read_stamp(path: str) -> int | None:
    """Return the moment written at `path`; None if there was no copy.

    Raises:
        DataLoss: the file holds something else.
    """
    try:
        with open(path, "rb") as stream:
            text = stream.read(64)
    except FileNotFoundError:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise DataLoss(f"{path!r} does not hold a time: {text!r}") from error
