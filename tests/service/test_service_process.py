"""`snapcore serve` as a service manager runs it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from support.cli import spawn
from support.serve import running
from support.service import Client, refused


def test_it_is_ready_when_it_says_so_and_ends_by_sigterm(tmp_path: Path) -> None:
    flags = ("--snapshotter", "native", "--log-level", "info")
    with running(tmp_path, *flags) as (service, client):
        assert stat.S_IMODE(os.stat(service.socket).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(service.socket.parent).st_mode) == 0o700
        client.prepare("default/1/a key")
        client.stat("default/1/a key")
        code, err = service.stop()
        assert service.told() == ["STOPPING=1"]
    assert code == 0
    (line,) = (line for line in err.splitlines() if "method=" in line)
    assert 'method=Prepare snapshotter="any" key="default/1/a key" code=OK ms=' in line
    assert list(service.socket.parent.iterdir()) == []


def test_a_service_manager_that_is_gone_does_not_make_its_end_a_failure(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, _):
        (tmp_path / "manager").unlink()
        code, err = service.stop()
    assert code == 0
    assert "the service manager at" in err


def test_it_tells_prometheus_until_its_end(tmp_path: Path) -> None:
    flags = ("--snapshotter", "native")
    with running(tmp_path, *flags, more=("--metrics-address", "127.0.0.1:0")) as (service, client):
        client.prepare("k")
        _, _, url = service.status.partition(", metrics at ")
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
        assert 'snapcore_service_calls_total{code="OK",method="Prepare"} 1.0\n' in text
        assert 'snapcore_snapshots{kind="active",snapshotter="native"} 1.0\n' in text
        address = urlsplit(url)
        assert address.hostname
        assert address.port
        with socket.create_connection((address.hostname, address.port), 20):
            code, _ = service.stop()
    assert code == 0


def test_it_ends_whichever_of_its_threads_takes_the_signal(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, client):
        client.prepare("k")
        process = service.process
        other = max(int(thread) for thread in os.listdir(f"/proc/{process.pid}/task"))
        assert other != process.pid
        assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM) == 0
        assert process.wait(60) == 0


def test_ctrl_c_interrupts_it(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, _):
        code, _ = service.stop(signal.SIGINT)
    assert code == 130


def test_a_second_one_is_refused_and_a_dead_ones_socket_replaced(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, client):
        client.prepare("k")
        second = spawn("--root", str(service.root), "serve", "--address", str(service.socket))
        assert second.code == 1
        assert second.err == f"snapcore: another process serves at {str(service.socket)!r}\n"
        service.process.kill()
        service.process.wait(60)
        assert service.socket.exists()
    (tmp_path / "manager").unlink()
    with running(tmp_path, "--snapshotter", "native") as (_, client):
        assert client.names() == ["k"]


def test_what_its_client_made_is_collected_by_its_client_only(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native", "--snapshotter", "overlay") as (
        service,
        any_,
    ):
        client = Client(any_.channel, "native")
        for key in ("extract", "k"):
            client.prepare(key)
        client.commit("layer", "extract")
        client.view("v", "layer")
        client.update("layer", {})
        collected = spawn("--root", str(service.root), "--format", "json", "gc").record()
        assert collected["removed"] == []
        assert client.names() == ["k", "layer", "v"]
        why = spawn("--root", str(service.root), "gc", "--why", "layer")
        assert "only its client removes it" in why.out
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            any_.names()
        for key in ("v", "layer", "k"):
            client.remove(key)
        client.cleanup()
        data = service.root / "snapshotters/native/snapshots"
        assert list(data.iterdir()) == []


@pytest.mark.long
def test_calls_under_way_are_cancelled_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshotter", "native") as (service, client):
        for number in range(100):
            client.prepare(f"k{number}", labels={f"l{n}": "x" * 4000 for n in range(20)})
        request = b""
        method = "/containerd.services.snapshots.v1.Snapshots/List"
        never_read = client.channel.unary_stream(method)(request)
        next(never_read)
        code, _ = service.stop()
        never_read.cancel()
    assert code == 0


@pytest.mark.parametrize(
    ("directory", "text"),
    [
        pytest.param(0o755, "must be yours alone", id="open-directory"),
        pytest.param(0, "not the address of a unix socket", id="tcp"),
    ],
)
def test_a_bad_address(tmp_path: Path, directory: int, text: str) -> None:
    address = "tcp://127.0.0.1:1"
    if directory:
        (tmp_path / "d").mkdir(mode=directory)
        address = str(tmp_path / "d/s")
    outcome = spawn(
        "--root", str(tmp_path / "r"), "--snapshotter", "native", "serve", "--address", address
    )
    assert outcome.code == (1 if directory else 2)
    assert text in outcome.err


def test_nothing_but_serve_loads_grpc() -> None:
    program = (
        "import sys, snapcore, snapcore.service, snapcore.cli.__main__ as m\n"
        "m.run(['--help']); m.run(['serve', '--help'])\n"
        "print([name for name in ('grpc', 'google.protobuf', 'trio') if name in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
