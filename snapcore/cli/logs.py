"""Logging of the command line: to stderr, as much as was asked for."""

from __future__ import annotations

import logging
import sys
from typing import Final

_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
# Its debug lines show whole URLs, and a redirected blob's URL carries a signature.
_TOO_TALKATIVE: Final = ("urllib3",)


def set_up(level: str) -> None:
    """Log to stderr, unless whoever embeds us has set up logging already.

    Args:
        level: debug, info, warning or error.
    """
    logging.basicConfig(stream=sys.stderr, format=_FORMAT, level=level.upper())
    for name in _TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)


def silence_retries() -> None:
    """Keep stamina from telling of each retry: what matters of them is told by ourselves."""
    # Here, as it takes long to import, and most verbs speak to no registry.
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks(())
