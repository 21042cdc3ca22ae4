"""From an error to an exit code and one sentence: the only table of that kind.

0 is success. 130 and 143 are SIGINT and SIGTERM: 128 and the signal, as shells count them; so is
141 (SIGPIPE), which `main` decides because only it knows whether stdout is what broke.
"""

from __future__ import annotations

import signal
from typing import Final

from snapcore.cli.text import printable
from snapcore.errors import (
    AlreadyExists,
    DigestMismatch,
    InvalidArgument,
    NotFound,
    RefusedInput,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    from_os_error,
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

EXIT_CODES: Final[tuple[tuple[type[SnapcoreError], int], ...]] = (
    (RefusedInput, 5),
    (DigestMismatch, 5),
    (InvalidArgument, USAGE),
    (NotFound, 3),
    (AlreadyExists, 4),
    (Unavailable, 6),
    (ResourceExhausted, 7),
    (SnapcoreError, FAILED),
)
"""The first class that fits decides; everything that is not listed failed with 1."""


class Interrupted(BaseException):
    """A signal asked this process to end; clean-up has run by the time it reaches `main`.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number: Final = number


def culprit(error: BaseException) -> BaseException:
    """Return the one error of a group that decides: a signal, else ours, else the first."""
    leaves = _leaves(error)
    for kind in (Interrupted, KeyboardInterrupt, SnapcoreError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def exit_code(error: BaseException) -> int:
    """Return the exit code of a failure."""
    if isinstance(error, Interrupted):
        return 128 + error.number
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code
    return FAILED


def as_ours(error: BaseException) -> BaseException:
    """Turn a bare OSError that got through to the top into one of our errors."""
    if isinstance(error, OSError):
        what = "system call" if error.filename is None else repr(error.filename)
        return from_os_error(error, what)
    return error


def sentence(error: BaseException) -> str:
    """Return what to say about a failure, in one line."""
    if isinstance(error, Interrupted):
        return f"interrupted by {signal.Signals(error.number).name}; cleaned up"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted by SIGINT"
    text = printable(" ".join(str(error).split()))
    if isinstance(error, SnapcoreError):
        return text or type(error).__name__
    return f"internal error: {type(error).__name__}: {text} (--log-level debug shows where)"


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
