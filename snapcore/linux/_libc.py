"""The loaded C library and the one way a failed call becomes an OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, path: str | bytes | None = None) -> int:
    """Return `result`, or raise what `errno` says if it is negative.

    Must be the first thing after the call: `errno` is the thread's and soon overwritten.

    Raises:
        OSError: the call failed; `filename` is `path`.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
