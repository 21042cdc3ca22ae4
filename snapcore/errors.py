"""The one closed tree of errors.

Every failure that leaves a public function of snapcore is one of these classes. Each docstring
says whose fault it is, because that decides who must act. The classes mirror the gRPC status
codes that containerd's `errdefs` uses, so an edge can map them with one table: the CLI maps
them to exit codes, the service to status codes. Nothing below an edge looks at either.

A message names the thing with `!r` and, where there is something to do, says what.
"""

from __future__ import annotations

import errno

__all__ = [
    "AlreadyExists",
    "ContractError",
    "DataLoss",
    "DigestMismatch",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "RefusedInput",
    "ResourceExhausted",
    "SnapcoreError",
    "Unavailable",
    "Unimplemented",
    "error_class",
    "from_os_error",
]


class SnapcoreError(Exception):
    """Base of the tree. Nobody raises it; catch it to catch everything of ours."""


class NotFound(SnapcoreError):
    """The caller named something that does not exist (any more)."""


class AlreadyExists(SnapcoreError):
    """The caller wants to create what is there already; often that is as good as success."""


class FailedPrecondition(SnapcoreError):
    """The thing exists but its state forbids the call; the caller must change that state first."""


class InvalidArgument(SnapcoreError):
    """The caller passed something malformed. Trying again with the same value cannot help."""


class RefusedInput(InvalidArgument):
    """An image, layer or document is malformed or hostile. Its author is at fault, not the caller.

    Kept apart from its base because a caller who typed everything right must be told so.
    """


class DigestMismatch(SnapcoreError):
    """Bytes are not what their digest or size says. The sender or the medium is at fault."""


class Unavailable(SnapcoreError):
    """A peer (registry, socket, lock holder) does not answer or says "later". Nobody here erred."""


class ResourceExhausted(SnapcoreError):
    """A limit of this host or of the configuration was hit: disk, quota, budget, open files."""


class Unimplemented(SnapcoreError):
    """This backend or build cannot do that at all; another one may."""


class PermissionDenied(SnapcoreError):
    """This process lacks a privilege, or a peer refused our credentials. The operator must act."""


class DataLoss(SnapcoreError):
    """Stored data is gone or damaged. Neither caller nor image is at fault; repair or re-pull."""


class ContractError(SnapcoreError):
    """A plugin broke the snapshotter contract. Its author is at fault; the message names it."""


_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DENIED = (errno.EPERM, errno.EACCES, errno.EROFS)


def from_os_error(error: OSError, what: str) -> SnapcoreError:
    """Return what a failed system call means to our caller; raise it `from` the OSError.

    Args:
        error: as caught at a room's edge.
        what: names the thing, such as `blob 'sha256:…'`.
    """
    message = f"{what}: {error.strerror or error}"
    if error.errno in _EXHAUSTED:
        return ResourceExhausted(message)
    if error.errno in _DENIED:
        return PermissionDenied(message)
    if error.errno == errno.EIO:
        return DataLoss(message)
    if error.errno == errno.ENOENT:
        return NotFound(message)
    return FailedPrecondition(message)


def error_class(name: str) -> type[SnapcoreError]:
    """Return the class that another process names; ContractError for what is none of ours."""
    found = globals().get(name) if name in __all__ else None
    if isinstance(found, type) and issubclass(found, SnapcoreError):
        return found
    return ContractError
