"""The calls that are measured: one raw gRPC client for all sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import grpc
from google.protobuf.empty_pb2 import Empty

from snapcore.service.proto import snapshots_pb2 as messages

Cycle = tuple[float, float, float, float]
"""Seconds of each of `METHODS`."""
METHODS: Final = ("Prepare", "Mounts", "Commit", "Remove")
"""Those of a cycle, in their order."""

_SERVICE: Final = "containerd.services.snapshots.v1.Snapshots"
_BASE: Final = "base"
# Else containerd's collector would take what nothing refers to.
_KEPT: Final = {"containerd.io/gc.root": "2026-01-01T00:00:00Z"}
_PATIENCE_SECONDS: Final = 60.0


class _Message(Protocol):
    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return its bytes."""


class Caller:
    """One snapshotter behind a socket.

    Args:
        channel: to the socket.
        snapshotter: its name there.
        metadata: of every call.
    """

    def __init__(
        self, channel: grpc.Channel, snapshotter: str, metadata: Mapping[str, str]
    ) -> None:
        self._name = snapshotter
        self._metadata = tuple(metadata.items())
        answers = {
            "Prepare": messages.PrepareSnapshotResponse.FromString,
            "Mounts": messages.MountsResponse.FromString,
            "Commit": Empty.FromString,
            "Remove": Empty.FromString,
            "Cleanup": Empty.FromString,
        }
        self._methods: dict[str, Callable[..., object]] = {
            method: channel.unary_unary(
                f"/{_SERVICE}/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=parse,
            )
            for method, parse in answers.items()
        }

    def make_base(self, files: int, size: int) -> None:
        """Commit the parent of all cycles: so many files of so many bytes."""
        request = messages.PrepareSnapshotRequest(
            snapshotter=self._name, key="extract", labels=_KEPT
        )
        answer = self._call("Prepare", request)
        assert isinstance(answer, messages.PrepareSnapshotResponse)
        for number in range(files):
            Path(answer.mounts[0].source, f"file-{number}").write_bytes(b"x" * size)
        self._commit(_BASE, "extract")

    def cycle(self, name: str) -> Cycle:
        """Make a snapshot, commit it and remove it; return the seconds of each method."""
        key, who = f"{name}-key", self._name
        begin = time.perf_counter()
        self._call(
            "Prepare",
            messages.PrepareSnapshotRequest(snapshotter=who, key=key, parent=_BASE, labels=_KEPT),
        )
        prepared = time.perf_counter()
        self._call("Mounts", messages.MountsRequest(snapshotter=who, key=key))
        known = time.perf_counter()
        self._commit(name, key)
        committed = time.perf_counter()
        self._call("Remove", messages.RemoveSnapshotRequest(snapshotter=who, key=name))
        removed = time.perf_counter()
        return prepared - begin, known - prepared, committed - known, removed - committed

    def clean_up(self) -> None:
        """Have the files of what was removed deleted; what containerd's own collector does."""
        try:
            self._call("Cleanup", messages.CleanupRequest(snapshotter=self._name))
        except grpc.RpcError as error:
            # containerd's native deletes them at once.
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise

    def _commit(self, name: str, key: str) -> None:
        self._call(
            "Commit",
            messages.CommitSnapshotRequest(
                snapshotter=self._name, name=name, key=key, labels=_KEPT
            ),
        )

    def _call(self, method: str, request: _Message) -> object:
        return self._methods[method](request, timeout=_PATIENCE_SECONDS, metadata=self._metadata)


@contextmanager
def calling(socket: str, snapshotter: str, metadata: Mapping[str, str]) -> Iterator[Caller]:
    """Connect to a socket for the duration of a `with` block."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        yield Caller(channel, snapshotter, metadata)
