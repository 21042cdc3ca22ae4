"""How calls over a connection fail, end and are found again: the client half."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from support.remote import PATIENCE_SECONDS, faked
from support.remote import client as client
from support.remote import memory as memory

from snapcore import errors
from snapcore.conformance import MemorySnapshotter, MemoryState, open_memory
from snapcore.service import serving
from snapcore.service.client import open_service
from snapcore.service.codes import failure
from snapcore.service.proto import snapshots_pb2 as messages
from snapcore.snapshots import (
    Checkpoint,
    Kind,
    Probe,
    Snapshotter,
    Usage,
    hookimpl,
    open_backend,
)


class TestErrors:
    @pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
    def test_each_code_has_a_class(self, code: grpc.StatusCode, tmp_path: Path) -> None:
        def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(code, f"because\nof {code.name}")
            return b""

        with faked(tmp_path, unary={"Stat": refuse}) as client:
            kind = type(failure(code, ""))
            with pytest.raises(kind) as caught:
                client.stat("key")
        assert type(caught.value) is kind
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            assert f"because of {code.name}" in str(caught.value)

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (grpc.StatusCode.NOT_FOUND, errors.NotFound),
            (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
            (grpc.StatusCode.DATA_LOSS, errors.DataLoss),
            (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unavailable),
            (grpc.StatusCode.CANCELLED, errors.Unavailable),
            (grpc.StatusCode.ABORTED, errors.Unavailable),
            (grpc.StatusCode.OUT_OF_RANGE, errors.InvalidArgument),
            (grpc.StatusCode.UNAUTHENTICATED, errors.PermissionDenied),
            (grpc.StatusCode.UNKNOWN, errors.ContractError),
            (grpc.StatusCode.INTERNAL, errors.ContractError),
        ],
    )
    def test_what_the_codes_mean(
        self, code: grpc.StatusCode, kind: type[errors.SnapcoreError]
    ) -> None:
        assert type(failure(code, "text")) is kind

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(errors.Unavailable, match=r"socket'.*start `snapcore serve`"):
            open_service(str(tmp_path / "socket"), "x")

    def test_no_address(self) -> None:
        with pytest.raises(errors.InvalidArgument, match="tcp"):
            open_service("tcp://localhost:1", "x")

    def test_it_hangs_up_in_the_middle(self, tmp_path: Path) -> None:
        with (
            listening(tmp_path / "socket", lambda peer: peer.recv(1)),
            pytest.raises(errors.Unavailable, match="socket"),
        ):
            open_service(str(tmp_path / "socket"), "x")

    def test_it_does_not_answer(self, tmp_path: Path) -> None:
        over = threading.Event()

        def wait(_request: bytes, _context: grpc.ServicerContext) -> bytes:
            over.wait(PATIENCE_SECONDS)
            return b""

        with faked(tmp_path, unary={"Stat": wait}, timeout=0.2) as client:
            with pytest.raises(errors.Unavailable, match=r"within 0\.2 s"):
                client.stat("key")
            over.set()

    def test_a_kind_that_there_is_not(self, tmp_path: Path) -> None:
        odd = messages.StatSnapshotResponse(info=messages.Info(name="key")).SerializeToString()
        with (
            faked(tmp_path, unary={"Stat": lambda *_: odd}) as client,
            pytest.raises(errors.ContractError, match="'key' is of no kind"),
        ):
            client.stat("key")


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """Take connections at a socket, and hang up on each after `serve`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def run() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        serve(peer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class Slow(MemorySnapshotter):
    """Measures until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.working = threading.Event()
        self.stopped = threading.Event()

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        self.working.set()
        try:
            while not self.stopped.wait(0.001):
                checkpoint()
        finally:
            self.stopped.set()
        return Usage()


class Gone(BaseException):
    """What a caller that has gone away raises."""


def test_what_a_checkpoint_raises_ends_the_work_on_the_other_side(tmp_path: Path) -> None:
    backend = Slow()

    def checkpoint() -> None:
        if backend.working.is_set():
            raise Gone

    slow = open_backend("slow", str(tmp_path), backend, Probe(usable=True))
    address = str(tmp_path / "s/socket")
    with serving(address, [slow]), open_service(address, "slow") as client:
        with pytest.raises(Gone):
            client.usage("key", checkpoint=checkpoint)
        assert backend.stopped.wait(PATIENCE_SECONDS)
        assert list(client.walk()) == []


def test_a_checkpoint_is_asked_before_anything_is_sent(client: Snapshotter) -> None:
    def checkpoint() -> None:
        raise Gone

    client.prepare("key")
    for call in (client.prepare, client.view, client.usage, client.remove):
        with pytest.raises(Gone):
            call("key", checkpoint=checkpoint)
    with pytest.raises(Gone):
        client.commit("name", "key", checkpoint=checkpoint)
    with pytest.raises(Gone):
        client.cleanup(checkpoint=checkpoint)
    assert [info.name for info in client.walk()] == ["key"]


def test_it_finds_a_server_that_was_started_anew(tmp_path: Path) -> None:
    address = str(tmp_path / "s/socket")
    memory = open_memory(MemoryState(), str(tmp_path))
    with serving(address, [memory]):
        client = open_service(address, "memory")
        client.prepare("key")
    with client:
        with pytest.raises(errors.Unavailable):
            client.stat("key")
        with serving(address, [memory]):
            eventually(lambda: client.stat("key").kind is Kind.ACTIVE)


def eventually(there: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(errors.Unavailable):
            if there():
                return
        time.sleep(0.01)
    pytest.fail("it never came")


def test_closing_hangs_up_and_leaves_nothing(memory: Snapshotter, tmp_path: Path) -> None:
    address = str(tmp_path / "s/socket")
    with open_service(address, "x") as client:
        list(client.walk())
    held, before = connections(), threads()
    for _ in range(5):
        client = open_service(address, "x")
        client.prepare("key", checkpoint=lambda: None)
        next(client.walk())
        client.remove("key", checkpoint=lambda: None)
        assert client.close()
        assert not client.close()
        with pytest.raises(errors.FailedPrecondition, match="closed"):
            client.stat("key")
    eventually(lambda: connections() <= held and threads() <= before)


def test_each_client_has_a_connection_of_its_own(memory: Snapshotter, tmp_path: Path) -> None:
    address = str(tmp_path / "s/socket")
    with open_service(address, "x") as one:
        one.prepare("key")
        before = connections()
        with open_service(address, "x") as other:
            other.stat("key")
            assert connections() > before


def threads() -> set[str]:
    """Return the threads of this process but the server's, which come with the calls."""
    return {t.name for t in threading.enumerate() if not t.name.startswith("snapcore-")}


def connections() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found
