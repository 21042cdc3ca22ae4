"""What Prometheus is told, and the server that tells it."""

from __future__ import annotations

import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support.cli import call, spawn
from support.service import refused, served

from snapcore.conformance import MemorySnapshotter, MemoryState
from snapcore.errors import InvalidArgument, NotFound, Unavailable
from snapcore.mount import mount_all, unmount
from snapcore.service import Metrics, exposing
from snapcore.service.exposition import host_and_port
from snapcore.service.stock import StockTaker
from snapcore.snapshots import (
    Kind,
    Page,
    Probe,
    Snapshotter,
    hookimpl,
    open_backend,
    open_snapshotter,
)

LOCAL = "127.0.0.1:0"


class Counted(MemorySnapshotter):
    """Counts the pages it is asked for; a test may make them slow, or fail."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.pages = 0
        self.meanwhile: Callable[[], None] = lambda: None

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        self.pages += 1
        self.meanwhile()
        return super().walk(filters, after, limit)


@pytest.fixture
def backend() -> Counted:
    return Counted()


@pytest.fixture
def counted(tmp_path: Path, backend: Counted) -> Snapshotter:
    return open_backend("counted", str(tmp_path), backend, Probe(usable=True))


def read(url: str, accept: str = "") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text: bytes = answer.read()
    return text.decode()


def scraped(metrics: Metrics) -> dict[str, float]:
    """Return what a scrape gives, by name and the values of labels, sorted by their names."""
    with exposing(LOCAL, metrics.registry) as url:
        text = read(url)
    return {
        " ".join(
            (sample.name, *(value for _, value in sorted(sample.labels.items())))
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_are_counted_and_timed(tmp_path: Path, counted: Snapshotter) -> None:
    metrics = Metrics([counted])
    with served(tmp_path, counted, observers=[metrics.observe]) as client:
        for key in ("a", "b"):
            client.prepare(key)
        for _ in range(3):
            with refused(grpc.StatusCode.NOT_FOUND):
                client.stat("c")
        client.pages()
        client.health()
    found = scraped(metrics)
    prefix = "snapcore_service_"
    assert {name: n for name, n in found.items() if name.startswith(f"{prefix}calls_total")} == {
        f"{prefix}calls_total OK Prepare": 2,
        f"{prefix}calls_total NOT_FOUND Stat": 3,
        f"{prefix}calls_total OK List": 1,
        f"{prefix}calls_total OK Check": 1,
    }
    assert found[f"{prefix}errors_total NotFound Stat"] == 3
    assert found[f"{prefix}call_duration_seconds_count Stat"] == 3
    assert found[f"{prefix}call_duration_seconds_bucket +Inf Prepare"] == 2
    assert found[f"{prefix}call_duration_seconds_sum Stat"] > 0


def test_the_stock_of_a_real_backend(tmp_path: Path) -> None:
    with open_snapshotter("native", str(tmp_path / "native")) as native:
        (mount,) = native.prepare("extract")
        Path(mount.source, "file").write_bytes(b"x" * 100_000)
        native.commit("base", "extract")
        (mount,) = native.prepare("k", "base")
        Path(mount.source, "more").write_bytes(b"x" * 100_000)
        native.view("v", "base")
        found = scraped(Metrics([native]))
        usage = native.usage("base")
    assert {name: n for name, n in found.items() if name.startswith("snapcore_")} == {
        "snapcore_snapshotter_up native": 1,
        "snapcore_snapshots active native": 1,
        "snapcore_snapshots committed native": 1,
        "snapcore_snapshots view native": 1,
        "snapcore_committed_bytes native": usage.size,
        "snapcore_committed_inodes native": usage.inodes,
        "snapcore_mounts native": 0,
    }
    assert usage.size > 100_000
    assert found["process_open_fds"] > 0


@pytest.mark.needs_root
def test_the_mounts_of_containers_are_counted(tmp_path: Path) -> None:
    target = tmp_path / "rootfs"
    target.mkdir()
    with open_snapshotter("overlay", str(tmp_path / "overlay")) as overlay:
        overlay.prepare("extract")
        overlay.commit("base", "extract")
        metrics = Metrics([overlay])
        mount_all(overlay.prepare("k", "base"), str(target))
        assert scraped(metrics)["snapcore_mounts overlay"] == 1
        unmount(str(target))


def test_a_backend_that_fails_does_not_hide_the_others(
    tmp_path: Path, counted: Snapshotter, backend: Counted
) -> None:
    def fail() -> None:
        raise NotFound("the disk is gone")

    backend.meanwhile = fail
    with open_snapshotter("native", str(tmp_path / "native")) as native:
        found = scraped(Metrics([counted, native]))
    assert found["snapcore_snapshotter_up counted"] == 0
    assert found["snapcore_snapshotter_up native"] == 1
    assert "snapcore_mounts counted" not in found


@pytest.mark.parametrize(
    ("took", "fresh"),
    [pytest.param(0.0, 5.0, id="quick"), pytest.param(3.0, 60.0, id="slow")],
)
def test_a_count_is_kept_for_a_while(
    counted: Snapshotter, backend: Counted, took: float, fresh: float
) -> None:
    now = 100.0

    def pass_time() -> None:
        nonlocal now
        now += took / 2

    counted.prepare("k")
    backend.meanwhile = pass_time
    taker = StockTaker(counted, lambda: now)
    assert taker.stock().kinds[Kind.ACTIVE] == 1
    ended, pages = now, backend.pages
    assert pages == 2
    now = ended + fresh - 0.01
    taker.stock()
    assert backend.pages == pages
    now = ended + fresh
    taker.stock()
    assert backend.pages > pages


def test_the_end_does_not_wait_for_a_count(
    counted: Snapshotter, backend: Counted, census: None
) -> None:
    for number in range(150):
        counted.prepare(f"k{number}")
    metrics, counting, stopped = Metrics([counted]), threading.Event(), threading.Event()

    def wait() -> None:
        counting.set()
        assert stopped.wait(20)

    backend.meanwhile = wait
    with exposing(LOCAL, metrics.registry) as url:
        scrape = threading.Thread(target=lambda: read(url))
        scrape.start()
        assert counting.wait(20)
        metrics.stop()
        stopped.set()
        scrape.join(20)
    assert backend.pages == 1


@pytest.fixture
def url(census: None) -> Iterator[str]:
    with exposing(LOCAL, CollectorRegistry()) as url:
        yield url


def test_only_metrics_are_there(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="there is only /metrics") as caught:
        read(url.replace("/metrics", "/"))
    caught.value.close()
    with pytest.raises(urllib.error.HTTPError, match="Unsupported method") as caught:
        urllib.request.urlopen(url, data=b"x", timeout=20)
    caught.value.close()


def test_openmetrics_are_told_to_who_asks_for_them(url: str) -> None:
    assert read(url) == ""
    assert read(url, "application/openmetrics-text; version=1.0.0") == "# EOF\n"


def test_who_says_nothing_holds_neither_many_threads_nor_the_end(census: None) -> None:
    with ExitStack() as stack:
        with exposing(LOCAL, CollectorRegistry()) as url:
            place = ("127.0.0.1", urlsplit(url).port or 0)
            silent = [stack.enter_context(socket.create_connection(place, 20)) for _ in range(8)]
            one_more = stack.enter_context(socket.create_connection(place, 20))
            assert one_more.recv(1) == b""
            silent[0].sendall(b"GET /metrics HTTP/1.1\r\n")
        assert [each.recv(1) for each in silent] == [b""] * 8


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_forms_of_an_address(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts


@pytest.mark.parametrize(
    "address",
    ["", "9100", ":9100", "localhost", "localhost:", "localhost:x", "::1:9100", "h:65536", "h:-1"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidArgument, match="want HOST:PORT"):
        host_and_port(address)


def test_an_address_that_others_reach_is_said(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    with exposing("0.0.0.0:0", registry) as url:
        assert [record.getMessage() for record in caplog.records] == [
            f"metrics can be read by whoever reaches {url}"
        ]
    caplog.clear()
    with exposing(LOCAL, registry):
        assert caplog.records == []


def test_a_port_that_is_taken(url: str) -> None:
    address = url.removeprefix("http://").removesuffix("/metrics")
    with (
        pytest.raises(Unavailable, match=f"cannot listen at '{address}' for metrics"),
        exposing(address, CollectorRegistry()),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "code", "text"),
    [
        pytest.param("localhost", 2, "want HOST:PORT", id="no-address"),
        pytest.param("192.0.2.1:1", 6, "cannot listen at '192.0.2.1:1' for metrics", id="bind"),
    ],
)
def test_serve_says_what_is_wrong_with_an_address(
    tmp_path: Path, address: str, code: int, text: str
) -> None:
    flags = ("--root", str(tmp_path / "r"), "--snapshotter", "native")
    outcome = spawn(
        *flags, "serve", "--address", str(tmp_path / "d/s"), "--metrics-address", address
    )
    assert (outcome.code, outcome.err.count("\n")) == (code, 1)
    assert text in outcome.err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param(["--metrics-address", LOCAL], "pip install 'snapcore[metrics]'", id="wanted"),
        pytest.param([], "must be yours alone", id="not-wanted"),
    ],
)
def test_the_package_is_needed_by_who_wants_metrics(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], text: str
) -> None:
    for name in ("metrics", "exposition"):
        monkeypatch.delitem(sys.modules, f"snapcore.service.{name}")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "prometheus_client")
    tmp_path.chmod(0o755)
    root = ("--root", str(tmp_path / "r"), "--snapshotter", "native")
    outcome = call(*root, "serve", "--address", str(tmp_path / "s"), *flags)
    assert outcome.code == 1
    assert text in outcome.err


def test_all_of_them_are_documented(counted: Snapshotter) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/service.md").read_text()
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics([counted]).registry.collect()
        if not family.name.startswith("process_")
    }
    assert set(re.findall(r"`(snapcore_[a-z_]+)", page)) == names
