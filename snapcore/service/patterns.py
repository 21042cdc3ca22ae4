"""Regular expressions of clients: whatever they are, a search takes time linear in its text.

containerd's clients write them for Go's engine, whose syntax is RE2's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import re2

from snapcore.errors import InvalidArgument
from snapcore.filters import Pattern, Predicate, compile_filters
from snapcore.snapshots import WALK_FIELDS

MOST_BYTES: Final = 64 << 10
"""Of all filters of a request together: each is looked at for each snapshot."""

# The module keeps 128 expressions for reuse, each with so much memory at most.
_PATTERN_BYTES: Final = 256 << 10


def linear(source: str) -> Pattern:
    """Compile by RE2.

    Raises:
        ValueError: it is no regular expression of RE2's, or a very large one.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_BYTES
    try:
        compiled: Pattern = re2.compile(source, options)
    except re2.error as error:
        (reason,) = error.args
        raise ValueError(reason.decode(errors="replace")) from error
    return compiled


def accepting(filters: Sequence[str], known: Collection[str] = WALK_FIELDS) -> Predicate:
    """Return whether a snapshot, or what else has the fields `known`, passes a client's filters.

    Raises:
        InvalidArgument: a filter does not parse, or they are too long.
    """
    size = sum(map(len, filters))
    if size > MOST_BYTES:
        raise InvalidArgument(f"filters of {size} characters; a request has {MOST_BYTES} at most")
    return compile_filters(tuple(filters), known, linear)
