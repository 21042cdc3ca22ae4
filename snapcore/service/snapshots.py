"""containerd's snapshots service over our snapshotters: what each method does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty

from snapcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from snapcore.labels import SNAPSHOT_REF
from snapcore.service import convert
from snapcore.service.backends import Backends, Served
from snapcore.service.calls import Message, Observer, Unary, stream, taking_turns, unary
from snapcore.service.names import SNAPSHOTS
from snapcore.service.owner import is_owned, owned, owned_paths, shown
from snapcore.service.patterns import accepting
from snapcore.service.proto import snapshots_pb2 as messages
from snapcore.snapshots import Checkpoint, Info, Snapshotter, info_fields

AT_ONCE: Final = 32
"""Most calls that work at a time, lists not counted; others wait."""
PAGE: Final = 100
"""Most infos in a message of a list (containerd: the same)."""

_PAGE_BYTES: Final = 2 << 20
"""Most bytes of several infos in a message: clients take 4 MiB unless told otherwise."""

_Q = TypeVar("_Q", bound=Message)
_A = TypeVar("_A", bound=Message)


class Snapshots:
    """The methods of the service; safe for any number of threads."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def prepare(
        self, request: messages.PrepareSnapshotRequest, checkpoint: Checkpoint
    ) -> messages.PrepareSnapshotResponse:
        """Create an Active snapshot.

        Where the backend supplies a layer instead, its client records that: it is on disk first.
        """
        served = self._backends.of(request.snapshotter)
        try:
            mounts = served.snapshotter.prepare(
                request.key,
                request.parent,
                labels=owned(convert.labels_of(request.labels)),
                checkpoint=checkpoint,
            )
        except AlreadyExists:
            _cover(served, request.labels.get(SNAPSHOT_REF, ""))
            raise
        return messages.PrepareSnapshotResponse(mounts=convert.mount_messages(mounts))

    def view(
        self, request: messages.ViewSnapshotRequest, checkpoint: Checkpoint
    ) -> messages.ViewSnapshotResponse:
        """Create a View."""
        mounts = self._of(request.snapshotter).view(
            request.key,
            request.parent,
            labels=owned(convert.labels_of(request.labels)),
            checkpoint=checkpoint,
        )
        return messages.ViewSnapshotResponse(mounts=convert.mount_messages(mounts))

    def mounts(
        self,
        request: messages.MountsRequest,
        checkpoint: Checkpoint,  # noqa: ARG002 - a table look-up is not worth stopping
    ) -> messages.MountsResponse:
        """Return the mounts of a snapshot."""
        mounts = self._of(request.snapshotter).mounts(request.key)
        return messages.MountsResponse(mounts=convert.mount_messages(mounts))

    def commit(self, request: messages.CommitSnapshotRequest, checkpoint: Checkpoint) -> Empty:
        """Commit a snapshot, and answer once it survives a power cut.

        The client records what it was answered, and we cannot withdraw that.
        """
        served = self._backends.of(request.snapshotter)
        with suppress(NotFound, InvalidArgument):
            _check_owned(served.snapshotter.stat(request.key))
        try:
            info = served.snapshotter.commit(
                request.name,
                request.key,
                labels=owned(convert.labels_of(request.labels)),
                parent=request.parent,
                checkpoint=checkpoint,
            )
        except AlreadyExists:
            # Clients take it for success.
            _cover(served, request.name)
            raise
        served.flush.cover(info)
        return Empty()

    def remove(self, request: messages.RemoveSnapshotRequest, checkpoint: Checkpoint) -> Empty:
        """Remove a snapshot that the service made; its files may go as late as in `cleanup`."""
        snapshotter = self._of(request.snapshotter)
        _check_owned(snapshotter.stat(request.key))
        snapshotter.remove(request.key, checkpoint=checkpoint)
        return Empty()

    def stat(
        self,
        request: messages.StatSnapshotRequest,
        checkpoint: Checkpoint,  # noqa: ARG002 - as for `mounts`
    ) -> messages.StatSnapshotResponse:
        """Return what is known of a snapshot."""
        info = self._of(request.snapshotter).stat(request.key)
        return messages.StatSnapshotResponse(info=convert.info_message(shown(info)))

    def update(
        self,
        request: messages.UpdateSnapshotRequest,
        checkpoint: Checkpoint,  # noqa: ARG002 - as for `mounts`
    ) -> messages.UpdateSnapshotResponse:
        """Change labels."""
        served = self._backends.of(request.snapshotter)
        wanted = convert.update_of(request.info)
        _check_owned(served.snapshotter.stat(wanted.name))
        wanted = replace(wanted, labels=owned(wanted.labels))
        info = served.update(wanted, owned_paths(request.update_mask.paths))
        return messages.UpdateSnapshotResponse(info=convert.info_message(shown(info)))

    def list(
        self, request: messages.ListSnapshotsRequest, checkpoint: Checkpoint
    ) -> Iterator[messages.ListSnapshotsResponse]:
        """Yield the snapshots that pass the filters, a page at a time.

        Only what was made through the service: containerd removes whatever it does not know.
        """
        # Filtered here: the backend would see the owner label, and a filter could find it.
        accept = accepting(request.filters)
        page: list[messages.Info] = []
        size = 0
        for stored in self._of(request.snapshotter).walk(page=PAGE):
            checkpoint()
            info = shown(stored)
            if not is_owned(stored) or not accept(info_fields(info)):
                continue
            message = convert.info_message(info)
            if len(page) == PAGE or (page and size + message.ByteSize() > _PAGE_BYTES):
                yield messages.ListSnapshotsResponse(info=page)
                page, size = [], 0
            page.append(message)
            size += message.ByteSize()
        if page:
            yield messages.ListSnapshotsResponse(info=page)

    def usage(
        self, request: messages.UsageRequest, checkpoint: Checkpoint
    ) -> messages.UsageResponse:
        """Return what the removal of a snapshot would free."""
        usage = self._of(request.snapshotter).usage(request.key, checkpoint=checkpoint)
        return messages.UsageResponse(size=usage.size, inodes=usage.inodes)

    def cleanup(self, request: messages.CleanupRequest, checkpoint: Checkpoint) -> Empty:
        """Delete the files of what was removed."""
        self._of(request.snapshotter).cleanup(checkpoint=checkpoint)
        return Empty()

    def _of(self, name: str) -> Snapshotter:
        return self._backends.of(name).snapshotter


def _check_owned(info: Info) -> None:
    """Raise FailedPrecondition unless the service made a snapshot; others are not its clients'."""
    if not is_owned(info):
        raise FailedPrecondition(
            f"snapshot {info.name!r} was not made through this service; use snapcore snapshots"
        )


def _cover(served: Served, name: str) -> None:
    """Have a snapshot on disk that a client will be told of, if there is one of that name."""
    with suppress(NotFound, InvalidArgument):
        served.flush.cover(served.snapshotter.stat(name))


def snapshots_handler(backends: Backends, observe: Observer) -> grpc.GenericRpcHandler:
    """Return gRPC's handler of the whole service."""
    work, slots = Snapshots(backends), threading.BoundedSemaphore(AT_ONCE)

    def handler(method: str, do: Unary[_Q, _A], request_class: type[_Q]) -> grpc.RpcMethodHandler:
        return unary(method, taking_turns(do, slots), request_class, observe)

    methods = {
        "Prepare": handler("Prepare", work.prepare, messages.PrepareSnapshotRequest),
        "View": handler("View", work.view, messages.ViewSnapshotRequest),
        "Mounts": handler("Mounts", work.mounts, messages.MountsRequest),
        "Commit": handler("Commit", work.commit, messages.CommitSnapshotRequest),
        "Remove": handler("Remove", work.remove, messages.RemoveSnapshotRequest),
        "Stat": handler("Stat", work.stat, messages.StatSnapshotRequest),
        "Update": handler("Update", work.update, messages.UpdateSnapshotRequest),
        # Its client may read it as slowly as it likes.
        "List": stream("List", work.list, messages.ListSnapshotsRequest, observe),
        "Usage": handler("Usage", work.usage, messages.UsageRequest),
        "Cleanup": handler("Cleanup", work.cleanup, messages.CleanupRequest),
    }
    return grpc.method_handlers_generic_handler(SNAPSHOTS, methods)
