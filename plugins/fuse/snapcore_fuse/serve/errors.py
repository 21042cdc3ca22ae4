"""Every failure of a request becomes an errno, so that no layer can end the mount for all."""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from snapcore.errors import (
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    Unimplemented,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)

# What a program that reads a file can make sense of; all else is an input/output error.
_ERRNOS: Final = (
    (PermissionDenied, errno.EACCES),
    (Unavailable, errno.ETIMEDOUT),
    (ResourceExhausted, errno.ENOSPC),
    (Unimplemented, errno.EOPNOTSUPP),
)


def errno_of(error: SnapcoreError) -> int:
    """Return the errno that a failed request is answered with."""
    return next((number for kind, number in _ERRNOS if isinstance(error, kind)), errno.EIO)


def failure(number: int) -> OSError:
    """Return the failure that a request is answered with."""
    return OSError(number, os.strerror(number))


def answering(method: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
    """Let a handler fail with OSError only; what nobody foresaw is logged and becomes EIO."""

    @functools.wraps(method)
    async def answer(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(*args, **kwargs)
        except OSError as error:
            if error.errno:
                raise
            raise _unforeseen(method.__name__, error) from error
        except Exception as error:
            raise _translated(method.__name__, error) from error

    return answer


def _translated(request: str, error: Exception) -> OSError:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, SnapcoreError):
        _log.warning("%s failed: %s", request, error)
        return failure(errno_of(error))
    if isinstance(error, OSError) and error.errno:
        return failure(error.errno)
    return _unforeseen(request, error)


def _unforeseen(request: str, error: Exception) -> OSError:
    _log.error("%s failed in a way that nobody foresaw", request, exc_info=error)
    return failure(errno.EIO)
