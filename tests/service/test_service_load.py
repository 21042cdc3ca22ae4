"""Many clients at once: no errors but the expected ones, and nothing that grows."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import pytest
from support.serve import Footprint, Service, running
from support.service import Client, connected, refused

CODE: Final = grpc.StatusCode
CALLS_OF_A_ROUND: Final = 18
SLACK: Final = 8
"""Of threads and connections to the database, which are made when they are needed."""
MEMORY_SLACK: Final = 8 << 20
PATIENCE_SECONDS: Final = 60.0

Seconds = defaultdict[str, list[float]]


class Timed(Client):
    """Keeps how long its calls took, the refused ones too."""

    def __init__(self, channel: grpc.Channel, seconds: Seconds) -> None:
        super().__init__(channel)
        self._seconds = seconds

    def raw(self, method: str, data: bytes, *, service: str = "") -> bytes:
        began = time.perf_counter()
        try:
            return super().raw(method, data, **({"service": service} if service else {}))
        finally:
            self._seconds[method].append(time.perf_counter() - began)

    def names(self, *filters: str) -> list[str]:
        began = time.perf_counter()
        try:
            return super().names(*filters)
        finally:
            self._seconds["List"].append(time.perf_counter() - began)


def _round(client: Client, name: str) -> None:
    key, layer, top, look = (f"{name}-{word}" for word in ("key", "layer", "top", "look"))
    client.prepare(key, "base")
    client.mounts(key)
    client.stat(key)
    client.update(key, {"a": "1"}, ["labels.a"])
    client.usage(key)
    client.commit(layer, key)
    client.view(look, layer)
    client.mounts(look)
    with refused(CODE.FAILED_PRECONDITION, "has children"):
        client.remove(layer)
    with refused(CODE.NOT_FOUND):
        client.stat("absent")
    client.prepare(top, layer)
    with refused(CODE.ALREADY_EXISTS):
        client.prepare(top, layer)
    assert client.names(f"name=={top}") == [top]
    for each in (top, look, layer):
        client.remove(each)
    client.cleanup()
    assert client.health() == 1


def _load(service: Service, clients: int, rounds: int, seconds: Seconds) -> None:
    """Have all clients make their rounds, and wait until the service has let go of them."""

    def work(number: int) -> None:
        with connected(service.socket) as plain:
            client = Timed(plain.channel, seconds)
            for turn in range(rounds):
                _round(client, f"{number}-{turn}")

    with ThreadPoolExecutor(clients) as threads:
        for done in [threads.submit(work, number) for number in range(clients)]:
            done.result()


def _settled(service: Service, sockets: int) -> Footprint:
    """Return the footprint once the service has hung up on all who have gone."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (now := service.footprint()).sockets > sockets:
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    return now


def _report(backend: str, seconds: Seconds, before: Footprint, after: Footprint) -> str:
    lines = [f"{backend}: {sum(map(len, seconds.values()))} calls"]
    for method, took in sorted(seconds.items()):
        ranks = statistics.quantiles(took, n=100)
        p50, p99 = ranks[49] * 1000, ranks[98] * 1000
        lines.append(f"  {method:8} {len(took):6}  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms")
    return "\n".join((*lines, f"  before {before}", f"  after  {after}", ""))


@pytest.mark.parametrize(
    ("clients", "rounds"),
    [
        pytest.param(16, 1, id="few"),
        pytest.param(64, 18, id="many", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "backend", ["native", pytest.param("overlay", marks=pytest.mark.needs_root)]
)
def test_nothing_grows(
    tmp_path: Path, backend: str, clients: int, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds: Seconds = defaultdict(list)
    with running(tmp_path, "--snapshotter", backend, "--log-level", "error") as (service, client):
        ((_, source, _),) = client.prepare("extract")
        for number in range(10):
            Path(source, f"file-{number}").write_bytes(b"x" * 5000)
        client.commit("base", "extract")
        idle = service.footprint()
        warm_up = -(-rounds // 4)
        _load(service, clients, warm_up, seconds)
        before = _settled(service, idle.sockets)
        seconds.clear()
        _load(service, clients, rounds, seconds)
        after = _settled(service, idle.sockets)
        with capsys.disabled():
            sys.stderr.write("\n" + _report(backend, seconds, before, after))
        assert client.names() == ["base"]
        code, err = service.stop()
    assert sum(map(len, seconds.values())) == clients * CALLS_OF_A_ROUND * rounds
    assert after.files <= before.files + SLACK
    assert after.threads <= before.threads + SLACK
    assert after.memory <= before.memory + MEMORY_SLACK
    assert code == 0
    assert err.count("\n") == 1
