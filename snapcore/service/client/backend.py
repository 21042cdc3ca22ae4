"""A snapshotter behind a socket: each hook is a call of containerd's snapshots service."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from snapcore.errors import InvalidArgument, NotFound, Unimplemented
from snapcore.oci import WhiteoutStyle
from snapcore.service import convert
from snapcore.service.client.connection import Connection, Method
from snapcore.service.names import SNAPSHOTS
from snapcore.service.proto import snapshots_pb2 as messages
from snapcore.snapshots import (
    Capability,
    Checkpoint,
    DefaultTarget,
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    Mounts,
    Page,
    Reclaimed,
    RootSync,
    Usage,
    hookimpl,
    is_key,
)

_PREPARE: Final = Method(SNAPSHOTS, "Prepare", messages.PrepareSnapshotResponse)
_VIEW: Final = Method(SNAPSHOTS, "View", messages.ViewSnapshotResponse)
_MOUNTS: Final = Method(SNAPSHOTS, "Mounts", messages.MountsResponse)
_COMMIT: Final = Method(SNAPSHOTS, "Commit", Empty)
_REMOVE: Final = Method(SNAPSHOTS, "Remove", Empty)
_STAT: Final = Method(SNAPSHOTS, "Stat", messages.StatSnapshotResponse)
_UPDATE: Final = Method(SNAPSHOTS, "Update", messages.UpdateSnapshotResponse)
_LIST: Final = Method(SNAPSHOTS, "List", messages.ListSnapshotsResponse)
_USAGE: Final = Method(SNAPSHOTS, "Usage", messages.UsageResponse)
_CLEANUP: Final = Method(SNAPSHOTS, "Cleanup", Empty)


class ServiceSnapshotter:
    """The hooks of a snapshotter, over a connection; see `SnapshotterSpec`.

    What a cancelled prepare, view, remove or cleanup did is as uncertain as after a lost
    connection, until the other side has noticed. A commit is not cancelled once it was sent:
    nothing could take it back.

    Args:
        connection: closed with the snapshotter.
        name: what the other side calls the snapshotter.
        capabilities: what it can do.
        medium: what to sync in `flush`; None if whatever was answered is on disk, or nobody knows
            where it is.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        capabilities: Collection[Capability],
        medium: RootSync | None,
    ) -> None:
        self._connection: Final = connection
        self._name: Final = name
        self._capabilities: Final = capabilities
        self._medium: Final = medium

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        request = messages.StatSnapshotRequest(snapshotter=self._name, key=_named(key))
        return convert.info_of(self._connection.call(_STAT, request).info)

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        request = messages.UpdateSnapshotRequest(
            snapshotter=self._name,
            info=messages.Info(name=_named(info.name), labels=dict(info.labels)),
            update_mask=FieldMask(paths=[_sendable(path) for path in fieldpaths]),
        )
        return convert.info_of(self._connection.call(_UPDATE, request).info)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`. The delta of a backend that copies is not told."""
        request = messages.UsageRequest(snapshotter=self._name, key=_named(key))
        answer = self._connection.call(_USAGE, request, checkpoint)
        return Usage(answer.inodes, answer.size)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`."""
        request = messages.MountsRequest(snapshotter=self._name, key=_named(key))
        return convert.mounts_of(self._connection.call(_MOUNTS, request).mounts)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`."""
        request = messages.PrepareSnapshotRequest(
            snapshotter=self._name, key=key, parent=_below(parent), labels=dict(labels)
        )
        return convert.mounts_of(self._connection.call(_PREPARE, request, checkpoint).mounts)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        request = messages.ViewSnapshotRequest(
            snapshotter=self._name, key=key, parent=_below(parent), labels=dict(labels)
        )
        return convert.mounts_of(self._connection.call(_VIEW, request, checkpoint).mounts)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`.

        Mounts do not say how whiteouts are kept. Who can rebase keeps each layer apart from those
        below it, and so in a way of overlayfs' also where there is none yet.
        """
        found = DefaultTarget(self).target(key)
        bare = found.directory and not found.lowers
        if not bare or Capability.REBASE not in self._capabilities or self.stat(key).parent:
            return found
        user = Capability.USERXATTR in self._capabilities
        style = WhiteoutStyle.OVERLAY_USER if user else WhiteoutStyle.OVERLAY
        return replace(found, whiteouts=style)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`."""
        checkpoint()
        request = messages.CommitSnapshotRequest(
            snapshotter=self._name,
            name=name,
            key=_named(key),
            labels=dict(labels),
            parent=_below(parent),
        )
        self._connection.call(_COMMIT, request)
        try:
            return self.stat(name)
        except NotFound:
            # Committed, and removed by somebody else since.
            now = time.time_ns()
            return Info(
                Kind.COMMITTED, name, parent=parent, labels=dict(labels), created=now, updated=now
            )

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        info = self.stat(key)
        request = messages.RemoveSnapshotRequest(snapshotter=self._name, key=key)
        self._connection.call(_REMOVE, request, checkpoint)
        return info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`.

        The service gives all there are, in any order: each page reads them all and keeps no more
        than `limit`.
        """
        request = messages.ListSnapshotsRequest(
            snapshotter=self._name, filters=[_sendable(text) for text in filters]
        )
        above = after.encode("utf-8", "surrogatepass")
        found = (
            info
            for part in self._connection.stream(_LIST, request)
            for info in part.info
            if info.name.encode() > above
        )
        first = heapq.nsmallest(limit, found, key=lambda info: info.name.encode())
        return Page(tuple(map(convert.info_of, first)))

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`: for files alone, since records are the other side's."""
        if self._medium is None:
            return FlushReport()
        self._medium.sync()
        return FlushReport(synced=1)

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`. How much it freed is not told."""
        request = messages.CleanupRequest(snapshotter=self._name)
        try:
            self._connection.call(_CLEANUP, request, checkpoint)
        except Unimplemented:
            # Snapshotters of containerd that delete at once have none.
            checkpoint()
        return Reclaimed()

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        if self._medium is not None:
            self._medium.close()
        return self._connection.close()


def _named(key: str) -> str:
    """Return a key that somebody may have; others cannot even be sent.

    Raises:
        NotFound: there can be no such snapshot.
    """
    if not is_key(key):
        raise NotFound(f"no snapshot {key[:200]!r}; it is no key at all")
    return key


def _below(parent: str) -> str:
    return _named(parent) if parent else ""


def _sendable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{text[:100]!r} is not valid Unicode") from error
    return text
