"""Between our values and the messages of containerd's snapshots service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from snapcore.errors import ContractError, InvalidArgument
from snapcore.mount import Mount
from snapcore.service.proto import mount_pb2, snapshots_pb2
from snapcore.snapshots import Info, Kind, Mounts

MOST_LABELS: Final = 1024
"""Of one request, and of one snapshot: with them all it still fits into a message."""

_SECOND: Final = 1_000_000_000
_KINDS: Final = {
    Kind.VIEW: snapshots_pb2.VIEW,
    Kind.ACTIVE: snapshots_pb2.ACTIVE,
    Kind.COMMITTED: snapshots_pb2.COMMITTED,
}
_KINDS_BACK: Final = {number: kind for kind, number in _KINDS.items()}


def info_message(info: Info) -> snapshots_pb2.Info:
    """Return the message of an info; whether it is durable is not in it."""
    return snapshots_pb2.Info(
        name=info.name,
        parent=info.parent,
        kind=_KINDS[info.kind],
        created_at=_timestamp(info.created),
        updated_at=_timestamp(info.updated),
        labels=dict(info.labels),
    )


def info_of(message: snapshots_pb2.Info) -> Info:
    """Return the info of a message. It is durable as far as anybody can say: others do not tell.

    Raises:
        ContractError: of a kind that there is not.
    """
    if message.kind not in _KINDS_BACK:
        raise ContractError(f"snapshot {message.name!r} is of no kind there is ({message.kind})")
    return Info(
        _KINDS_BACK[message.kind],
        message.name,
        parent=message.parent,
        labels=dict(message.labels),
        created=message.created_at.ToNanoseconds(),
        updated=message.updated_at.ToNanoseconds(),
    )


def update_of(message: snapshots_pb2.Info) -> Info:
    """Return what an update asks for: only the name and the labels of an info count.

    Raises:
        InvalidArgument: too many labels, or a kind that there is not.
    """
    # Clients leave the kind out where they have no info at hand.
    if message.kind not in {snapshots_pb2.UNKNOWN, *_KINDS_BACK}:
        raise InvalidArgument(f"there is no kind {int(message.kind)} of snapshots")
    kind = _KINDS_BACK.get(message.kind, Kind.ACTIVE)
    return Info(kind, message.name, labels=labels_of(message.labels))


def labels_of(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a request.

    Raises:
        InvalidArgument: there are too many.
    """
    check_count(labels)
    return dict(labels)


def check_count(labels: Mapping[str, str]) -> None:
    """Check how many labels a snapshot would have.

    Raises:
        InvalidArgument: there are too many.
    """
    if len(labels) > MOST_LABELS:
        raise InvalidArgument(f"{len(labels)} labels; a snapshot has {MOST_LABELS} at most")


def mount_messages(mounts: Mounts) -> list[mount_pb2.Mount]:
    """Return the messages of a mount list."""
    return [_mount_message(mount) for mount in mounts]


def mounts_of(messages: Iterable[mount_pb2.Mount]) -> Mounts:
    """Return the mount list of messages."""
    return tuple(
        Mount(each.type, each.source, target=each.target, options=tuple(each.options))
        for each in messages
    )


def _mount_message(mount: Mount) -> mount_pb2.Mount:
    return mount_pb2.Mount(
        type=mount.type, source=mount.source, target=mount.target, options=mount.options
    )


def _timestamp(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // _SECOND, nanos=nanoseconds % _SECOND)
