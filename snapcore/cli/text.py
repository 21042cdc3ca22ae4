"""Values as text for people: names made harmless, sizes, times."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SECOND: Final = 1_000_000_000


def printable(text: str) -> str:
    """Return `text` without anything that could steer a terminal or not be encoded.

    Names come from images and directories; control characters, direction overrides and bytes
    that are not UTF-8 are shown as backslash escapes.
    """
    shown = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def human_size(size: int) -> str:
    """Return a number of bytes in the largest unit that keeps it at 1 or more."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size}B" if unit == 0 else f"{amount:.1f}{_UNITS[unit]}"


def rfc3339(nanoseconds: int) -> str:
    """Return a time since the epoch as RFC 3339 in UTC, with all nine digits."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def human_duration(seconds: float) -> str:
    """Return a duration: `0.4s`, `12.3s`, `3m07s`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s"
