"""Talking to a served snapshotter as a stranger would: by messages and names of methods."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from snapcore.mount import Mount
from snapcore.service import Observer, serving
from snapcore.service.proto import health_pb2, snapshots_pb2
from snapcore.snapshots import Snapshotter

SNAPSHOTS: Final = "containerd.services.snapshots.v1.Snapshots"
PATIENCE_SECONDS: Final = 20.0


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


class _Answer(Protocol):
    @classmethod
    def FromString(cls, data: bytes, /) -> _Answer: ...  # noqa: N802 - protobuf's name


_A = TypeVar("_A", bound=_Answer)


class Client:
    """The calls of the service, for one snapshotter name."""

    def __init__(self, channel: grpc.Channel, snapshotter: str = "any") -> None:
        self.channel: Final = channel
        self.snapshotter: Final = snapshotter

    def raw(self, method: str, data: bytes, *, service: str = SNAPSHOTS) -> bytes:
        """Send bytes and return the answer's."""
        call = self.channel.unary_unary(f"/{service}/{method}")
        answer: bytes = call(data, timeout=PATIENCE_SECONDS)
        return answer

    def _call(self, method: str, request: _Message, answer: type[_A]) -> _A:
        found = answer.FromString(self.raw(method, request.SerializeToString()))
        assert isinstance(found, answer)
        return found

    def prepare(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[tuple[str, str, list[str]]]:
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels
        )
        answer = self._call("Prepare", request, snapshots_pb2.PrepareSnapshotResponse)
        return [(mount.type, mount.source, list(mount.options)) for mount in answer.mounts]

    def view(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> list[tuple[str, str, list[str]]]:
        request = snapshots_pb2.ViewSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels
        )
        answer = self._call("View", request, snapshots_pb2.ViewSnapshotResponse)
        return [(mount.type, mount.source, list(mount.options)) for mount in answer.mounts]

    def mounts(self, key: str) -> list[tuple[str, str, list[str]]]:
        request = snapshots_pb2.MountsRequest(snapshotter=self.snapshotter, key=key)
        answer = self._call("Mounts", request, snapshots_pb2.MountsResponse)
        return [(mount.type, mount.source, list(mount.options)) for mount in answer.mounts]

    def commit(
        self, name: str, key: str, labels: Mapping[str, str] | None = None, parent: str = ""
    ) -> None:
        request = snapshots_pb2.CommitSnapshotRequest(
            snapshotter=self.snapshotter, name=name, key=key, labels=labels, parent=parent
        )
        self._call("Commit", request, Empty)

    def remove(self, key: str) -> None:
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key)
        self._call("Remove", request, Empty)

    def stat(self, key: str) -> snapshots_pb2.Info:
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        return self._call("Stat", request, snapshots_pb2.StatSnapshotResponse).info

    def update(
        self, name: str, labels: Mapping[str, str], paths: Sequence[str] = (), kind: int = 0
    ) -> snapshots_pb2.Info:
        request = snapshots_pb2.UpdateSnapshotRequest(
            snapshotter=self.snapshotter, update_mask=FieldMask(paths=paths)
        )
        # As bytes: the constructor takes no kind that there is not.
        info = snapshots_pb2.Info(name=name, labels=labels).SerializeToString()
        request.info.MergeFromString(info + (b"\x18" + bytes([kind]) if kind else b""))
        return self._call("Update", request, snapshots_pb2.UpdateSnapshotResponse).info

    def pages(self, *filters: str) -> list[list[snapshots_pb2.Info]]:
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        call = self.channel.unary_stream(f"/{SNAPSHOTS}/List")
        parse = snapshots_pb2.ListSnapshotsResponse.FromString
        answers = call(request.SerializeToString(), timeout=PATIENCE_SECONDS)
        return [list(parse(answer).info) for answer in answers]

    def names(self, *filters: str) -> list[str]:
        return [info.name for page in self.pages(*filters) for info in page]

    def usage(self, key: str) -> tuple[int, int]:
        request = snapshots_pb2.UsageRequest(snapshotter=self.snapshotter, key=key)
        answer = self._call("Usage", request, snapshots_pb2.UsageResponse)
        return answer.size, answer.inodes

    def cleanup(self) -> None:
        self._call("Cleanup", snapshots_pb2.CleanupRequest(snapshotter=self.snapshotter), Empty)

    def health(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = self.raw("Check", request, service="grpc.health.v1.Health")
        return int(health_pb2.HealthCheckResponse.FromString(answer).status)


@contextmanager
def connected(path: Path | str, snapshotter: str = "any") -> Iterator[Client]:
    """Connect to a socket for the duration of a `with` block."""
    with grpc.insecure_channel(f"unix:{path}") as channel:
        yield Client(channel, snapshotter)


@contextmanager
def served(
    directory: Path, *snapshotters: Snapshotter, observers: Sequence[Observer] = ()
) -> Iterator[Client]:
    """Serve snapshotters, in this process, for the duration of a `with` block."""
    path = directory / "service" / "socket"
    with serving(str(path), snapshotters, observers), connected(path) as client:
        yield client


def hung_up_on(path: Path | str, data: bytes) -> None:
    """Send something that is no gRPC, half-close, and wait until the other side hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.settimeout(PATIENCE_SECONDS)
        stranger.connect(str(path))
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while stranger.recv(65536):
                pass


@contextmanager
def refused(code: grpc.StatusCode, text: str = "") -> Iterator[None]:
    """Expect that a call ends with a status code, and a message that has `text`."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    assert text in caught.value.details()


def mounted(rows: Sequence[tuple[str, str, list[str]]]) -> tuple[Mount, ...]:
    """Return what a client was answered as values that can be mounted."""
    return tuple(Mount(kind, source, options=tuple(options)) for kind, source, options in rows)
