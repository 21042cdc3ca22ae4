"""SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from snapcore.errors import InvalidArgument

_VARIABLE: Final = "SOURCE_DATE_EPOCH"
# Until the year 9999, which is what an RFC 3339 time can say.
_SECONDS: Final = re.compile(r"[0-9]{1,11}\Z", re.ASCII)
_MOST: Final = 253_402_300_799


def source_date_epoch(environment: Mapping[str, str]) -> int | None:
    """Return the time that everything made now shall have, in seconds since 1970; None for none.

    Raises:
        InvalidArgument: it is not a number of seconds.
    """
    text = environment.get(_VARIABLE, "")
    if not text:
        return None
    if not _SECONDS.match(text) or int(text) > _MOST:
        raise InvalidArgument(f"{_VARIABLE} is {text[:100]!r}, not a number of seconds since 1970")
    return int(text)
