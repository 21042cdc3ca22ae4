"""A span for each call, in its client's trace, where the process has a provider."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from support.cli import child_environment
from support.service import SNAPSHOTS, Client, refused, served

from snapcore.conformance import MemorySnapshotter, MemoryState
from snapcore.errors import DataLoss
from snapcore.service.proto import snapshots_pb2
from snapcore.service.traces import tracer_here
from snapcore.snapshots import Info, Probe, hookimpl, open_backend

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Watching(MemorySnapshotter):
    """Keeps which span is the current one in `stat`, and fails if it is told to."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.spans: list[int] = []
        self.failure: Exception | None = None

    @hookimpl
    def stat(self, key: str) -> Info:
        self.spans.append(get_current_span().get_span_context().span_id)
        if self.failure:
            raise self.failure
        return super().stat(key)


@pytest.fixture
def backend() -> Watching:
    return Watching()


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def client(tmp_path: Path, backend: Watching, exporter: InMemorySpanExporter) -> Iterator[Client]:
    snapshotter = open_backend("memory", str(tmp_path), backend, Probe(usable=True))
    with served(tmp_path, snapshotter) as client:
        yield client


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_each_call_is_a_span(
    client: Client, backend: Watching, exporter: InMemorySpanExporter
) -> None:
    client.prepare("k")
    client.stat("k")
    client.names()
    client.health()
    prepare, stat, listed = exporter.get_finished_spans()
    assert [span.name for span in (prepare, stat, listed)] == [
        f"{SNAPSHOTS}/Prepare",
        f"{SNAPSHOTS}/Stat",
        f"{SNAPSHOTS}/List",
    ]
    assert attributes(prepare) == {
        "rpc.system": "grpc",
        "rpc.service": SNAPSHOTS,
        "rpc.method": "Prepare",
        "rpc.grpc.status_code": 0,
        "snapcore.snapshotter": "any",
        "snapcore.key": "k",
    }
    assert prepare.kind is SpanKind.SERVER
    assert prepare.parent is None
    (current,) = backend.spans
    assert stat.context is not None
    assert current == stat.context.span_id


def test_it_is_in_the_clients_trace(client: Client, exporter: InMemorySpanExporter) -> None:
    call = client.channel.unary_unary(f"/{SNAPSHOTS}/Prepare")
    request = snapshots_pb2.PrepareSnapshotRequest(key="k").SerializeToString()
    call(request, timeout=20, metadata=[("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-bin", b"\0")])
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert span.parent.is_remote


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        pytest.param(None, grpc.StatusCode.NOT_FOUND, StatusCode.UNSET, id="the-callers"),
        pytest.param(DataLoss("gone"), grpc.StatusCode.DATA_LOSS, StatusCode.ERROR, id="ours"),
        pytest.param(ValueError("x"), grpc.StatusCode.INTERNAL, StatusCode.ERROR, id="a-bug"),
    ],
)
def test_a_failure_is_told(
    client: Client,
    backend: Watching,
    exporter: InMemorySpanExporter,
    failure: Exception | None,
    code: grpc.StatusCode,
    status: StatusCode,
) -> None:
    backend.failure = failure
    with refused(code):
        client.stat("k")
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["rpc.grpc.status_code"] == code.value[0]
    assert span.status.status_code is status
    assert span.events == ()


def test_a_list_that_is_given_up_ends_its_span(
    tmp_path: Path, backend: Watching, exporter: InMemorySpanExporter
) -> None:
    snapshotter = open_backend("memory", str(tmp_path), backend, Probe(usable=True))
    with served(tmp_path, snapshotter) as client:
        for number in range(30):
            client.prepare(f"k{number}", labels={f"{n}": "x" * 4000 for n in range(100)})
        exporter.clear()
        call = client.channel.unary_stream(f"/{SNAPSHOTS}/List")(b"")
        next(call)
        call.cancel()
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]
    assert span.status.status_code is StatusCode.UNSET


def test_an_unknown_method_is_refused_as_ever(client: Client) -> None:
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        client.raw("Reformat", b"")


def test_without_a_provider_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    assert tracer_here() is None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert tracer_here() is None


def test_nothing_is_imported_where_nobody_asked_for_traces(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from snapcore.service import serving\n"
        f"with serving({str(tmp_path / 'd/s')!r}, ()):\n"
        "    print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
