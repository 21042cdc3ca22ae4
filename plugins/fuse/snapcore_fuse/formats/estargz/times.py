"""Times of a table of contents: RFC 3339, whole seconds as its writers have them, or finer."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Final

from snapcore.errors import RefusedInput

_FORM: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY: Final = 86400
_NANOSECONDS: Final = 1_000_000_000
_CACHED: Final = 65536


class TimeParser:
    """Parses times; remembers those it has met, since files come from packages."""

    def __init__(self, refuse: Callable[[str], RefusedInput]) -> None:
        """Parse; `refuse` makes the error that names the place."""
        self._refuse = refuse
        self._known = {"": 0}

    def parse(self, text: str) -> int:
        """Return nanoseconds since the epoch; digits past the ninth are cut off, "" is 0.

        Raises:
            RefusedInput: no time of RFC 3339.
        """
        known = self._known.get(text)
        if known is None:
            known = self._parse(text)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[text] = known
        return known

    def _parse(self, text: str) -> int:
        match = _FORM.match(text)
        if match is None:
            raise self._refuse(f"no time: {text[:100]!r}")
        try:
            moment = dt.datetime.fromisoformat(match[1].upper() + match[3].upper())
        except ValueError as error:
            raise self._refuse(f"no time: {text[:100]!r}") from error
        since = moment - _EPOCH
        fraction = (match[2] or "")[:9].ljust(9, "0")
        return (since.days * _DAY + since.seconds) * _NANOSECONDS + int(fraction)
