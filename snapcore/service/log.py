"""A line in the log for each call, in logfmt: words that tools split without guessing."""

from __future__ import annotations

import json
import logging
from typing import Final

from snapcore.service.calls import CallRecord

_log: Final = logging.getLogger("snapcore.service")
_LOOKING: Final = frozenset({"Stat", "Mounts", "List", "Usage", "Check"})
# A client that finds nothing, or finds it there already, has asked a question.
_ORDINARY: Final = frozenset({"OK", "NOT_FOUND", "ALREADY_EXISTS", "CANCELLED"})


def log_call(call: CallRecord) -> None:
    """Write the line of a call: debug for questions, info for changes, warning for failures."""
    if call.failure is not None:
        level = logging.ERROR
    elif call.code not in _ORDINARY:
        level = logging.WARNING
    else:
        level = logging.DEBUG if call.method in _LOOKING else logging.INFO
    _log.log(level, "%s", _line(call), exc_info=call.failure)


def _line(call: CallRecord) -> str:
    words = [
        f"method={call.method}",
        f"snapshotter={json.dumps(call.snapshotter)}",
        f"key={json.dumps(call.key)}",
        f"code={call.code}",
        f"ms={call.seconds * 1000:.1f}",
    ]
    if call.message:
        words.append(f"error={json.dumps(call.message)}")
    return " ".join(words)
