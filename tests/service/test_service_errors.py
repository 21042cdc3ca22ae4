"""Each error reaches the client as the code that containerd's clients know; so do bad requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from support.service import SNAPSHOTS, Client, hung_up_on, refused, served

from snapcore import errors
from snapcore.conformance import MemorySnapshotter, MemoryState
from snapcore.service import CallRecord
from snapcore.service.codes import MESSAGE_BYTES, STATUS_CODES, status
from snapcore.service.proto import snapshots_pb2
from snapcore.service.snapshots import AT_ONCE
from snapcore.snapshots import (
    Checkpoint,
    Labels,
    Mounts,
    Probe,
    Snapshotter,
    Usage,
    hookimpl,
    open_backend,
)

CODE = grpc.StatusCode


class Faulty(MemorySnapshotter):
    """Fails in prepare with what a test says, and works in usage until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.failure: Exception | None = None
        self.working = threading.Event()
        self.at_work = 0
        self.guard = threading.Lock()
        self.stopped = threading.Event()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        if self.failure:
            raise self.failure
        return super().prepare(key, parent, labels, checkpoint)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        with self.guard:
            self.at_work += 1
        self.working.set()
        try:
            while not self.stopped.wait(0.001):
                checkpoint()
        except errors.Unavailable:
            self.stopped.set()
            raise
        return Usage()


class Served:
    def __init__(self, client: Client, backend: Faulty, calls: list[CallRecord]) -> None:
        self.client, self.backend, self.calls = client, backend, calls


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    backend, calls = Faulty(), list[CallRecord]()
    snapshotter: Snapshotter = open_backend("faulty", str(tmp_path), backend, Probe(usable=True))
    with served(tmp_path, snapshotter, observers=[calls.append]) as client:
        yield Served(client, backend, calls)


CLASSES = [
    value
    for name in errors.__all__
    for value in (getattr(errors, name),)
    if isinstance(value, type) and value is not errors.SnapcoreError
]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_has_its_code(service: Served, kind: type[errors.SnapcoreError]) -> None:
    service.backend.failure = kind(f"told by {kind.__name__}")
    (expected, *_) = (code for listed, code in STATUS_CODES if issubclass(kind, listed))
    with refused(expected, f"told by {kind.__name__}"):
        service.client.prepare("k")
    service.backend.failure = None
    service.client.prepare("k")
    assert [call.code for call in service.calls] == [expected.name, "OK"]
    assert {call.key for call in service.calls} == {"k"}


def test_the_codes_are_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/errors.md").read_text()
    for kind in CLASSES:
        (code, *_) = (code for listed, code in STATUS_CODES if issubclass(kind, listed))
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{kind.__name__}` |"))
        assert row.endswith(f"| `{code.name}` |")


def test_only_data_loss_has_two_classes() -> None:
    codes = [code for _, code in STATUS_CODES]
    assert [code for code in set(codes) if codes.count(code) > 1] == [CODE.DATA_LOSS]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(OSError(28, "No space left on device"), CODE.RESOURCE_EXHAUSTED, id="enospc"),
        pytest.param(OSError(5, "Input/output error"), CODE.DATA_LOSS, id="eio"),
        pytest.param(ValueError("what"), CODE.INTERNAL, id="bug"),
    ],
)
def test_what_is_not_ours(service: Served, failure: Exception, code: grpc.StatusCode) -> None:
    service.backend.failure = failure
    with refused(code):
        service.client.prepare("k")
    (call,) = service.calls
    assert (call.failure is not None) == (code is CODE.INTERNAL)


def test_our_own_mistakes_are_not_explained_to_strangers() -> None:
    assert status(ValueError("/secret")) == (CODE.INTERNAL, "internal error: ValueError")


def test_a_message_fits_into_a_header(service: Served) -> None:
    service.backend.failure = errors.NotFound("\u20ac" * 100_000)
    for _ in range(20):
        with refused(CODE.NOT_FOUND):
            service.client.prepare("k")
    assert len(status(service.backend.failure)[1].encode()) == MESSAGE_BYTES


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client: client.prepare(""), id="empty"),
        pytest.param(lambda client: client.prepare("a\0b"), id="nul"),
        pytest.param(lambda client: client.prepare("k" * 4097), id="long"),
        pytest.param(lambda client: client.commit("a\0b", "k"), id="nul-in-name"),
        pytest.param(lambda client: client.prepare("k", labels={"": "x"}), id="label-key"),
        pytest.param(lambda client: client.prepare("k", labels={"\0": "x"}), id="nul-in-label"),
        pytest.param(lambda client: client.prepare("k", labels={"a": "x" * 5000}), id="label"),
        pytest.param(
            lambda client: client.prepare("k", labels={f"{n}": "x" for n in range(10_000)}),
            id="10000-labels",
        ),
        pytest.param(lambda client: client.pages("name=="), id="filter"),
        pytest.param(lambda client: client.pages("size==1"), id="filter-field"),
        pytest.param(lambda client: client.pages("name~=/(/"), id="expression"),
        pytest.param(lambda client: client.pages("name~=/(x{1000}){1000}/"), id="expression-size"),
        pytest.param(lambda client: client.pages(*["name==x"] * 10_000), id="filters-size"),
        pytest.param(lambda client: client.update("k", {}, kind=99), id="kind"),
        pytest.param(lambda client: client.raw("Stat", b"\x12\x02\xff\xfe"), id="not-utf-8"),
        pytest.param(
            lambda client: client.raw("Prepare", b"\x22\x08\x0a\x01a\x12\x03\xff\xfe\xfd"),
            id="label-not-utf-8",
        ),
        pytest.param(lambda client: client.raw("Prepare", b"\xff" * 100), id="no-message"),
    ],
)
def test_a_bad_request_is_an_invalid_argument(
    service: Served, call: Callable[[Client], object]
) -> None:
    with refused(CODE.INVALID_ARGUMENT):
        call(service.client)
    assert service.client.pages() == []


@pytest.mark.parametrize(
    ("method", "code"),
    [
        pytest.param("Prepare", CODE.RESOURCE_EXHAUSTED, id="oversized"),
        pytest.param("Reformat", CODE.UNIMPLEMENTED, id="unknown-method"),
    ],
)
def test_what_grpc_itself_refuses(service: Served, method: str, code: grpc.StatusCode) -> None:
    with refused(code):
        service.client.raw(method, b"\0" * ((16 << 20) + 1 if method == "Prepare" else 1))
    service.client.prepare("k")


def test_a_message_of_almost_16_mib_is_taken(service: Served) -> None:
    labels = {f"{number:04}": "x" * 4000 for number in range(1024)}
    padded = snapshots_pb2.PrepareSnapshotRequest(key="k", labels=labels).SerializeToString()
    # Fields that we do not know are skipped, so that clients may be newer than we are.
    unknown = b"\xfa\x3f" + b"\xf0\xff\xff\x05" + b"x" * 0xBFFFF0
    service.client.raw("Prepare", padded + unknown[: (16 << 20) - len(padded)])
    assert len(service.client.stat("k").labels) == 1024


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http-1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"\0" * 100_000, id="zeros"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000, id="http-2-broken"),
        pytest.param(b"", id="half-closed"),
    ],
)
def test_another_protocol_is_hung_up_on(service: Served, tmp_path: Path, data: bytes) -> None:
    hung_up_on(tmp_path / "service/socket", data)
    service.client.prepare("k")


def test_streams_that_are_never_read_do_not_stop_others(service: Served) -> None:
    # More than the transport takes before somebody reads.
    large = {f"{number}": "x" * 4000 for number in range(100)}
    for number in range(30):
        service.client.prepare(f"k{number:03}", labels=large)
    request = snapshots_pb2.ListSnapshotsRequest().SerializeToString()
    with ExitStack() as stack:
        for _ in range(40):
            call = service.client.channel.unary_stream(f"/{SNAPSHOTS}/List")(request)
            stack.callback(call.cancel)
            next(call)
        assert service.client.stat("k000").name == "k000"


def test_calls_whose_request_never_comes_do_not_stop_others(service: Served) -> None:
    call, never = service.client.channel.stream_unary(f"/{SNAPSHOTS}/Prepare"), threading.Event()

    def request() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with ExitStack() as stack:
        stack.callback(never.set)
        for _ in range(40):
            stack.callback(call.future(request()).cancel)
        for number in range(40):
            service.client.prepare(f"k{number}")


def test_32_calls_work_at_a_time(service: Served) -> None:
    usage = service.client.channel.unary_unary(f"/{SNAPSHOTS}/Usage")
    calls = [usage.future(TestTheEndOfACall.REQUEST) for _ in range(40)]
    deadline = time.monotonic() + 20
    while service.backend.at_work < AT_ONCE:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    # The others are not let in, however long they wait.
    assert service.client.health() == 1
    assert service.backend.at_work == AT_ONCE == 32
    service.backend.stopped.set()
    for call in calls:
        call.result(20)
    assert service.backend.at_work == 40


def test_a_call_that_waits_ends_with_its_client(service: Served) -> None:
    usage = service.client.channel.unary_unary(f"/{SNAPSHOTS}/Usage")
    calls = [usage.future(TestTheEndOfACall.REQUEST) for _ in range(AT_ONCE)]
    deadline = time.monotonic() + 20
    while service.backend.at_work < AT_ONCE:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert usage.future(TestTheEndOfACall.REQUEST, timeout=0.05).code() is CODE.DEADLINE_EXCEEDED
    # Its thread is free again while all others are still at work.
    while not [call for call in service.calls if call.code == "CANCELLED"]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert service.backend.at_work == AT_ONCE
    service.backend.stopped.set()
    for call in calls:
        call.result(20)


def test_an_expression_of_exponential_time_takes_no_time(service: Served) -> None:
    service.client.prepare("a" * 4000)
    assert service.client.names("name~=/^(a|a)*(a+)+(.*)*$/,name~=/(a*)*b$/") == []


@pytest.mark.parametrize("messages", [0, 2])
def test_a_call_has_one_message(service: Served, messages: int) -> None:
    request = snapshots_pb2.PrepareSnapshotRequest(key="k").SerializeToString()
    call = service.client.channel.stream_unary(f"/{SNAPSHOTS}/Prepare")
    if messages:
        call(iter([request] * messages), timeout=20)
    else:
        with refused(CODE.UNIMPLEMENTED, "exactly one request message"):
            call(iter([]), timeout=20)
    assert service.client.names() == ["k"] * bool(messages)


def test_health_is_told_while_all_threads_are_busy(service: Served) -> None:
    usage = service.client.channel.unary_unary(f"/{SNAPSHOTS}/Usage")
    with ExitStack() as stack:
        for _ in range(40):
            stack.callback(usage.future(TestTheEndOfACall.REQUEST).cancel)
        assert service.backend.working.wait(20)
        assert service.client.health() == 1
        service.backend.stopped.set()


def test_a_socket_that_cannot_be_made_private_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr("snapcore.service.server.os.chmod", refuse)
    with pytest.raises(errors.Unavailable, match="cannot listen at"), served(tmp_path):
        pass
    monkeypatch.undo()
    # Nobody listens there any more.
    with served(tmp_path):
        pass


class TestTheEndOfACall:
    """A client that gives up stops the work, not just its own waiting."""

    REQUEST = snapshots_pb2.UsageRequest(key="k").SerializeToString()

    def test_by_its_deadline(self, service: Served) -> None:
        service.client.pages()
        usage = service.client.channel.unary_unary(f"/{SNAPSHOTS}/Usage")
        call = usage.future(self.REQUEST, timeout=2)
        assert service.backend.working.wait(20)
        assert call.code() is CODE.DEADLINE_EXCEEDED
        assert service.backend.stopped.wait(20)

    def test_by_a_cancel(self, service: Served) -> None:
        call = service.client.channel.unary_unary(f"/{SNAPSHOTS}/Usage").future(self.REQUEST)
        assert service.backend.working.wait(20)
        call.cancel()
        assert service.backend.stopped.wait(20)

    def test_by_its_death(self, service: Served, tmp_path: Path) -> None:
        with grpc.insecure_channel(f"unix:{tmp_path}/service/socket") as channel:
            call = channel.unary_unary(f"/{SNAPSHOTS}/Usage").future(self.REQUEST)
            assert service.backend.working.wait(20)
        assert call.code() is CODE.CANCELLED
        assert service.backend.stopped.wait(20)
