"""From a failed call on one entry to an error that names the entry."""

from __future__ import annotations

import errno
from typing import Final

from snapcore.archive.types import Entry
from snapcore.errors import RefusedInput, SnapcoreError, Unimplemented, from_os_error

_MAX_SHOWN: Final = 200
# What only the layer's author can have caused.
_AUTHOR: Final = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOENT,
        errno.EFBIG,
        errno.E2BIG,
        errno.ERANGE,
        errno.EMLINK,
        errno.EOVERFLOW,
    }
)


def shown(path: tuple[bytes, ...]) -> str:
    """Return an entry's name for a message."""
    return repr(b"/".join(path)[:_MAX_SHOWN] or b".")


def refuse(entry: Entry, why: str) -> RefusedInput:
    """Return the error for an entry that is not acceptable."""
    return RefusedInput(f"entry {shown(entry.path)} at offset {entry.offset}: {why}")


def entry_error(error: OSError, entry: Entry) -> SnapcoreError:
    """Return what a failed call means for the layer that holds `entry`."""
    what = f"entry {shown(entry.path)} at offset {entry.offset}"
    if error.errno in _AUTHOR:
        return RefusedInput(f"{what}: {error.strerror}")
    if error.errno == errno.EOPNOTSUPP:
        return Unimplemented(f"{what}: this filesystem cannot store it: {error.strerror}")
    return from_os_error(error, what)
