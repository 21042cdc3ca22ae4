"""From our errors to gRPC status codes and back: the only table of that kind.

The codes are those that containerd's clients take for its own errors (containerd,
errdefs/grpc.go), so that its unpacker and its collector know what happened.
"""

from __future__ import annotations

from typing import Final

import grpc

from snapcore.errors import (
    AlreadyExists,
    ContractError,
    DataLoss,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    Unimplemented,
    from_os_error,
)

STATUS_CODES: Final[tuple[tuple[type[SnapcoreError], grpc.StatusCode], ...]] = (
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unimplemented, grpc.StatusCode.UNIMPLEMENTED),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (DataLoss, grpc.StatusCode.DATA_LOSS),
    (DigestMismatch, grpc.StatusCode.DATA_LOSS),
    (ContractError, grpc.StatusCode.INTERNAL),
)
"""The first class that fits decides; of two with one code the first is what it means to us."""

_FOREIGN: Final = {
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
}
"""What we answer with none of, and others may."""

MESSAGE_BYTES: Final = 1200
"""Most of a message: it travels in a header, of which clients take a few KiB, and where each byte
that is not ASCII takes three."""


def status(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Return the status code of a failure, and what to say about it."""
    ours = from_os_error(error, "system call") if isinstance(error, OSError) else error
    text = " ".join(str(ours).split()).encode()[:MESSAGE_BYTES].decode(errors="ignore")
    for kind, code in STATUS_CODES:
        if isinstance(ours, kind):
            return code, text
    # What else came out of a plugin may say anything, and is for the log alone.
    return grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"


def failure(code: grpc.StatusCode, text: str) -> SnapcoreError:
    """Return what a status code means that came back from a service.

    A code that says nothing (`UNKNOWN`: containerd's for errors without a class of their own) is
    a ContractError: a snapshotter has no errors but those of the contract.

    Args:
        code: any but OK.
        text: what the service said about it.
    """
    message = " ".join(text.split())
    for kind, ours in STATUS_CODES:
        if ours is code:
            return kind(message)
    return _FOREIGN.get(code, ContractError)(message)
