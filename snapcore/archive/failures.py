"""How applying a layer fails: the reason a layer's own tree stands in its way, and OSErrors."""

from __future__ import annotations

import errno
from typing import Final, TypeAlias

from snapcore.errors import (
    FailedPrecondition,
    NotFound,
    RefusedInput,
    ResourceExhausted,
    SnapcoreError,
    Unimplemented,
    from_os_error,
)

Path: TypeAlias = tuple[bytes, ...]
"""Components of a path inside the layer; () is the root."""

_SHOWN: Final = 200
_MALFORMED: Final = (errno.ENAMETOOLONG, errno.EINVAL, errno.E2BIG, errno.ERANGE)
_FULL: Final = (errno.EFBIG, errno.EMLINK)


class Blocked(Exception):
    """Internal: a path cannot be resolved in the merged tree as it is now; says why."""


class Missing(Blocked):
    """Internal: because there is nothing at it, or on the way to it."""


def shown(path: Path) -> str:
    """Return a path for a message."""
    return repr(b"/".join(path)[:_SHOWN]) if path else "the root directory"


def layer_error(error: OSError, path: Path) -> SnapcoreError:
    """Return what a failed system call on an entry of a layer means.

    What the kernel calls too long or invalid is the layer's fault; an unknown xattr is something
    that this filesystem cannot do; all else as `from_os_error`.
    """
    what = f"layer entry {shown(path)}"
    if error.errno in _MALFORMED:
        return RefusedInput(f"{what}: {error.strerror}")
    if error.errno in _FULL:
        return ResourceExhausted(f"{what}: {error.strerror}")
    if error.errno == errno.ENOTSUP:
        return Unimplemented(f"{what}: the filesystem of the target cannot do this")
    mapped = from_os_error(error, what)
    if isinstance(mapped, NotFound):
        # Nobody else writes here: what vanished was taken away by somebody who must not.
        return FailedPrecondition(f"{mapped} (did another process change the target?)")
    return mapped
