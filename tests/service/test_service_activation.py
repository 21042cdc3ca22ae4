"""A socket that the service manager listens at, before and after us."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from support.cli import child_environment
from support.serve import running
from support.service import SNAPSHOTS, Client, connected, hung_up_on

from snapcore.conformance import MemoryState, open_memory
from snapcore.errors import FailedPrecondition, InvalidArgument, SnapcoreError
from snapcore.service import inherited, serving
from snapcore.service.proto import snapshots_pb2

FLAGS = ("--snapshotter", "native")


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir(mode=0o700)
    return str(tmp_path / "run/socket")


@pytest.fixture
def listener(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        yield listener


class TestInherited:
    """Which of the descriptors that were handed over is the one."""

    @staticmethod
    def environment(count: int | str = 1, pid: int = 7) -> Mapping[str, str]:
        return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count)}

    def test_the_one_that_listens_at_the_path(self, listener: socket.socket, path: str) -> None:
        handed = os.dup(listener.fileno())
        os.set_inheritable(handed, True)
        found = inherited(self.environment(), 7, path, handed)
        assert found is not None
        with found:
            assert found.getsockname() == path
            assert not os.get_inheritable(handed)

    def test_among_several_the_others_are_closed(
        self, listener: socket.socket, path: str, census: None
    ) -> None:
        first = 200
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            os.dup2(other.fileno(), first)
            os.dup2(listener.fileno(), first + 1)
            found = inherited(self.environment(2), 7, path, first)
            assert found is not None
            found.close()

    @pytest.mark.parametrize(
        "environment",
        [
            pytest.param({}, id="none"),
            pytest.param({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, id="of-another-process"),
            pytest.param({"LISTEN_FDS": "1"}, id="of-nobody"),
            pytest.param({"LISTEN_PID": "7"}, id="no-number"),
            pytest.param({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, id="zero"),
        ],
    )
    def test_none_was_handed_over(self, environment: Mapping[str, str], path: str) -> None:
        assert inherited(environment, 7, path, 200) is None

    def test_what_is_no_number(self, path: str) -> None:
        with pytest.raises(InvalidArgument, match="LISTEN_FDS='x'"):
            inherited(self.environment("x"), 7, path)

    @pytest.mark.parametrize("kind", ["elsewhere", "datagram", "not-listening", "file"])
    def test_none_of_them_listens_there(self, path: str, kind: str, census: None) -> None:
        with ExitStack() as stack:
            if kind == "file":
                handed = os.open("/dev/null", os.O_RDONLY)
                stack.callback(os.close, handed)
            else:
                datagram = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
                other = socket.socket(socket.AF_UNIX, datagram)
                other.bind(f"{path}2" if kind == "elsewhere" else path)
                if kind == "elsewhere":
                    other.listen()
                handed = other.detach()
            with pytest.raises(FailedPrecondition, match="must name the same path"):
                inherited(self.environment(), 7, path, handed)


def test_who_connected_before_the_start_is_answered(
    tmp_path: Path, listener: socket.socket, path: str
) -> None:
    with connected(path) as early:
        request = snapshots_pb2.PrepareSnapshotRequest(key="early").SerializeToString()
        method = early.channel.unary_unary(f"/{SNAPSHOTS}/Prepare")
        answer = method.future(request, timeout=60, wait_for_ready=True)
        # In the queue of a socket that nobody accepts from yet.
        queued = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with queued:
            queued.connect(path)
            queued.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
            with running(tmp_path, *FLAGS, listener=listener) as (service, client):
                queued.settimeout(60)
                assert queued.recv(9)[3] == 4
                assert answer.result()
                assert client.names() == ["early"]
                code, err = service.stop()
    assert code == 0
    assert "serving native at" in err


def test_the_socket_stays_and_who_connects_later_waits(
    tmp_path: Path, listener: socket.socket, path: str
) -> None:
    with running(tmp_path, *FLAGS, listener=listener) as (service, client):
        client.prepare("k")
        service.stop()
    assert sorted(os.listdir(os.path.dirname(path))) == ["socket"]
    (tmp_path / "manager").unlink()
    with connected(path) as waiting:
        method = waiting.channel.unary_unary(f"/{SNAPSHOTS}/Stat")
        request = snapshots_pb2.StatSnapshotRequest(key="k").SerializeToString()
        answer = method.future(request, timeout=60, wait_for_ready=True)
        with running(tmp_path, *FLAGS, listener=listener):
            assert answer.result()


def test_connections_that_end_leave_nothing(
    tmp_path: Path, listener: socket.socket, path: str
) -> None:
    with running(tmp_path, *FLAGS, listener=listener) as (service, client):
        client.names()
        idle = service.footprint()
        for _ in range(20):
            with connected(path) as other:
                other.names()
        deadline = time.monotonic() + 60
        while (now := service.footprint()).sockets > idle.sockets:
            assert time.monotonic() < deadline, now
            time.sleep(0.01)


def test_a_crash_leaves_the_socket_to_the_next(
    tmp_path: Path, listener: socket.socket, path: str
) -> None:
    with running(tmp_path, *FLAGS, listener=listener) as (service, client):
        client.prepare("k")
        service.process.kill()
        service.process.wait(60)
    (tmp_path / "manager").unlink()
    with running(tmp_path, *FLAGS, listener=listener) as (_, client):
        assert client.names() == ["k"]


@pytest.fixture
def client(tmp_path: Path, listener: socket.socket, path: str) -> Iterator[Client]:
    """Return a client of a service in this process, whose socket is handed over."""
    (tmp_path / "memory").mkdir()
    memory = open_memory(MemoryState(), str(tmp_path / "memory"))
    handed = socket.socket(fileno=os.dup(listener.fileno()))
    with handed, serving(path, [memory], (), handed), connected(path) as client:
        yield client


def test_large_answers_and_many_connections_pass(client: Client, path: str) -> None:
    large = {f"{number}": "x" * 4000 for number in range(1000)}
    client.prepare("k", labels=large)
    for _ in range(20):
        with connected(path) as other:
            assert dict(other.stat("k").labels) == large


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b""])
def test_a_hang_up_passes_both_ways(client: Client, path: str, data: bytes) -> None:
    hung_up_on(path, data)
    client.prepare("k")


def test_who_goes_in_the_middle_disturbs_nobody(client: Client, path: str) -> None:
    large = {f"{number}": "x" * 4000 for number in range(1000)}
    for number in range(5):
        client.prepare(f"k{number}", labels=large)
    for _ in range(5):
        with connected(path) as other:
            call = other.channel.unary_stream(f"/{SNAPSHOTS}/List")(b"")
            next(call)
    assert client.stat("k0").name == "k0"


def test_a_second_one_is_refused(client: Client, listener: socket.socket, path: str) -> None:
    again = socket.socket(fileno=os.dup(listener.fileno()))
    with (
        again,
        pytest.raises(SnapcoreError, match="another process serves at"),
        serving(path, (), (), again),
    ):
        pass


@pytest.mark.long
def test_systemds_own_activator(tmp_path: Path, path: str) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed: package systemd")
    command = (sys.executable, "-m", "snapcore.cli", "--root", str(tmp_path / "root"), *FLAGS)
    # It starts the program, and becomes it, when somebody connects.
    with subprocess.Popen(
        [activate, "--listen", path, *command, "serve", "--address", path],
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            grpc.channel_ready_future(channel).result(60)
            Client(channel).prepare("k")
            assert Client(channel).names() == ["k"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert os.path.exists(path)
