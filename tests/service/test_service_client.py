"""A snapshotter behind a socket is a snapshotter: the client half."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from support.answers import Service, Stream, Unary, answering

from snapcore import errors
from snapcore.conformance import MemorySnapshotter, MemoryState, open_memory
from snapcore.mount import Mount
from snapcore.oci import WhiteoutStyle
from snapcore.service import serving
from snapcore.service.client import open_service
from snapcore.service.codes import failure
from snapcore.service.names import INTROSPECTION, SNAPSHOTS
from snapcore.service.proto import introspection_pb2, mount_pb2
from snapcore.service.proto import snapshots_pb2 as messages
from snapcore.snapshots import (
    Capability,
    Checkpoint,
    HookTrace,
    Info,
    Kind,
    LayerTarget,
    Probe,
    Reclaimed,
    Snapshotter,
    Usage,
    hookimpl,
    open_backend,
)

PATIENCE_SECONDS = 20.0


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Snapshotter]:
    """Serve the reference; yield it as it is here."""
    (tmp_path / "memory").mkdir()
    state = MemoryState(remote=frozenset({"remote"}))
    with (
        open_memory(state, str(tmp_path / "memory")) as memory,
        serving(str(tmp_path / "s/socket"), [memory]),
    ):
        yield memory


@pytest.fixture
def client(tmp_path: Path, memory: Snapshotter) -> Iterator[Snapshotter]:
    with open_service(f"unix://{tmp_path}/s/socket", "anything") as client:
        yield client


@contextmanager
def faked(
    tmp_path: Path,
    *,
    unary: dict[str, Unary] | None = None,
    streams: dict[str, Stream] | None = None,
    timeout: float = PATIENCE_SECONDS,
    lease: str = "",
) -> Iterator[Snapshotter]:
    """Open a client of a snapshots service that answers what a test says, and has nothing else."""
    path = tmp_path / "fake"
    with (
        answering(path, Service(SNAPSHOTS, unary or {}, streams or {})),
        open_service(str(path), "x", namespace="n", lease=lease, timeout=timeout) as client,
    ):
        yield client


def test_a_layer_and_what_stands_on_it(client: Snapshotter, memory: Snapshotter) -> None:
    assert client.prepare("key", labels={"a": "1"}) == (Mount("memory", "1", options=("rw",)),)
    info = client.commit("base", "key", labels={"b": "2"})
    assert (info.kind, info.name, info.labels) == (Kind.COMMITTED, "base", {"b": "2"})
    assert client.prepare("child", "base") == client.mounts("child") == memory.mounts("child")
    assert client.view("view", "base")[0].read_only
    assert client.usage("base") == memory.usage("base")
    assert [each.name for each in client.walk(["kind!=committed"])] == ["child", "view"]
    for each in client.walk():
        assert replace(each, labels={}) == replace(memory.stat(each.name), labels={})
        assert client.stat(each.name) == each
    assert client.remove("view").kind is Kind.VIEW
    assert client.cleanup() == Reclaimed()
    assert client.flush().synced == 0
    with pytest.raises(errors.NotFound, match="'view'"):
        client.stat("view")


def test_updates_by_path_and_of_all(client: Snapshotter) -> None:
    client.prepare("key", labels={"a": "1", "b": "2"})
    info = client.stat("key")
    changed = client.update(replace(info, labels={"a": "new", "b": "ignored"}), ["labels.a"])
    assert changed.labels == {"a": "new", "b": "2"}
    assert changed.updated > changed.created == info.created
    assert client.update(replace(info, labels={"c": "3"})).labels == {"c": "3"}
    with pytest.raises(errors.InvalidArgument, match="'parent'"):
        client.update(info, ["parent"])
    with pytest.raises(errors.InvalidArgument, match="Unicode"):
        client.update(info, ["labels.\ud800"])


def test_rebase_and_remote_layers(client: Snapshotter) -> None:
    for name in ("a", "b"):
        client.prepare(f"key {name}")
        client.commit(name, f"key {name}")
    client.prepare("key")
    assert client.commit("c", "key", parent="a").parent == "a"
    with pytest.raises(errors.AlreadyExists):
        client.prepare("key", "b", labels={"containerd.io/snapshot.ref": "remote"})
    assert client.stat("remote").parent == "b"


def test_what_can_be_no_key_is_not_found(client: Snapshotter) -> None:
    client.prepare("key")
    for key in ("", "\ud800", "k" * 5000):
        for call in (client.stat, client.usage, client.mounts, client.remove):
            with pytest.raises(errors.NotFound):
                call(key)
        with pytest.raises(errors.NotFound):
            client.update(Info(Kind.ACTIVE, key))
        if key:
            with pytest.raises(errors.NotFound):
                client.prepare("new", key)


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


class TestPages:
    NAMES = ("b", "Z", "é", "a", "c", "\U0001f40b", "0")

    def list(self, request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        assert messages.ListSnapshotsRequest.FromString(request).filters == ["kind==active"]
        for name in self.NAMES:
            info = messages.Info(name=name, kind=messages.ACTIVE)
            yield messages.ListSnapshotsResponse(info=[info]).SerializeToString()

    @pytest.mark.parametrize("page", [1, 2, 100])
    def test_an_unsorted_list_is_sorted_page_by_page(self, tmp_path: Path, page: int) -> None:
        with faked(tmp_path, streams={"List": self.list}) as client:
            found = [info.name for info in client.walk(["kind==active"], page=page)]
        assert found == sorted(self.NAMES, key=str.encode)

    def test_a_filter_that_cannot_be_sent(self, client: Snapshotter) -> None:
        with pytest.raises(errors.InvalidArgument, match="Unicode"):
            next(client.walk(['name=="\ud800"']))


def test_a_commit_counts_though_others_have_removed_it_since(tmp_path: Path) -> None:
    def absent(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return b""

    done: Unary = lambda *_: Empty().SerializeToString()  # noqa: E731
    with faked(tmp_path, unary={"Commit": done, "Stat": absent}) as client:
        info = client.commit("name", "key", labels={"a": "1"}, parent="base")
    assert (info.kind, info.name, info.parent) == (Kind.COMMITTED, "name", "base")


def test_what_goes_with_each_call(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def usage(_request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.update(context.invocation_metadata())
        # Of an authority that is a path, strict servers hang up.
        assert context._rpc_event.call_details.host == b"localhost"
        answer: bytes = messages.UsageResponse(size=7, inodes=3).SerializeToString()
        return answer

    with faked(tmp_path, unary={"Usage": usage}, lease="l") as client:
        assert client.usage("key") == Usage(3, 7)
    assert (seen["containerd-namespace"], seen["containerd-lease"]) == ("n", "l")


def test_messages_of_16_mib_come(tmp_path: Path) -> None:
    labels = {f"{number}": "x" * 4000 for number in range(2000)}
    info = messages.Info(name="key", kind=messages.ACTIVE, labels=labels)
    large: bytes = messages.StatSnapshotResponse(info=info).SerializeToString()
    assert len(large) > 4 << 20
    with faked(tmp_path, unary={"Stat": lambda *_: large}) as client:
        assert client.stat("key").labels == labels


def test_a_mount_has_all_its_fields(tmp_path: Path) -> None:
    mount = mount_pb2.Mount(type="t", source="s", target="below", options=["a", "b"])
    given: bytes = messages.MountsResponse(mounts=[mount]).SerializeToString()
    with faked(tmp_path, unary={"Mounts": lambda *_: given}) as client:
        assert client.mounts("key") == (Mount("t", "s", "below", ("a", "b")),)


def test_who_has_no_cleanup_has_nothing_to_clean_up(tmp_path: Path) -> None:
    with faked(tmp_path) as client:
        assert client.cleanup() == Reclaimed()


class TestCapabilities:
    def test_are_asked_for(self, client: Snapshotter, memory: Snapshotter) -> None:
        assert client.capabilities == memory.capabilities

    def test_of_the_one_that_is_meant(self, tmp_path: Path) -> None:
        plain = Probe(usable=True)
        able = Probe(usable=True, capabilities=frozenset({Capability.QUOTA, Capability.OWN_APPLY}))
        state = MemoryState()
        backends = [
            open_backend(name, str(tmp_path), MemorySnapshotter(state), probe)
            for name, probe in (("plain", plain), ("able", able))
        ]
        with serving(str(tmp_path / "s/socket"), backends):
            for name, wanted in (
                ("plain", set()),
                ("able", {Capability.QUOTA}),
                ("snapcore-able", {Capability.QUOTA}),
            ):
                with open_service(str(tmp_path / "s/socket"), name) as client:
                    assert client.capabilities == wanted

    def test_are_declared_where_nobody_says(self, tmp_path: Path) -> None:
        with answering(tmp_path / "fake", Service(SNAPSHOTS)):
            declared = {Capability.REBASE}
            with open_service(str(tmp_path / "fake"), "x", capabilities=declared) as client:
                assert client.capabilities == declared


class TestRoots:
    """Whose files are not on disk when it answers, tells at least where they are."""

    def says(self, root: str) -> Service:
        plugin = introspection_pb2.Plugin(id="x", exports={"root": root})
        said: bytes = introspection_pb2.PluginsResponse(plugins=[plugin]).SerializeToString()
        return Service(INTROSPECTION, {"Plugins": lambda *_: said})

    def test_are_synced_if_they_are_here(self, tmp_path: Path) -> None:
        with answering(tmp_path / "fake", self.says(str(tmp_path))):
            with open_service(str(tmp_path / "fake"), "x") as client:
                assert client.root == str(tmp_path)
                assert client.flush().synced == 1
            with pytest.raises(errors.FailedPrecondition):
                client.flush()

    @pytest.mark.parametrize("root", ["", ".", "/nonexistent"])
    def test_are_nothing_to_us_if_they_are_not(self, tmp_path: Path, root: str) -> None:
        path = str(tmp_path / "fake")
        with (
            answering(tmp_path / "fake", self.says(root)),
            open_service(path, "x") as client,
        ):
            assert client.root == f"unix://{path}"
            assert client.flush().synced == 0


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


def test_wrappers_and_traces_go_around_it(memory: Snapshotter, tmp_path: Path) -> None:
    seen: list[str] = []

    class Watch:
        @hookimpl(wrapper=True)
        def prepare(self, key: str) -> Generator[None, object, object]:
            seen.append(f"wrapped {key}")
            return (yield)

    def trace(call: HookTrace) -> None:
        seen.append(f"traced {call.hook}")

    address = str(tmp_path / "s/socket")
    with open_service(address, "x", wrappers=[lambda *_: Watch()], trace=trace) as client:
        client.prepare("key")
    assert "wrapped key" in seen
    assert "traced prepare" in seen


@pytest.mark.parametrize(
    ("capabilities", "style"),
    [
        ([], WhiteoutStyle.APPLY),
        ([Capability.REBASE], WhiteoutStyle.OVERLAY),
        ([Capability.REBASE, Capability.USERXATTR], WhiteoutStyle.OVERLAY_USER),
    ],
)
def test_a_layer_that_may_be_rebased_has_whiteouts_of_its_own(
    tmp_path: Path, capabilities: list[Capability], style: WhiteoutStyle
) -> None:
    bind = mount_pb2.Mount(type="bind", source="/layer", options=["rbind", "rw"])
    mounts: bytes = messages.MountsResponse(mounts=[bind]).SerializeToString()

    def stat(request: bytes, _context: grpc.ServicerContext) -> bytes:
        key = messages.StatSnapshotRequest.FromString(request).key
        info = messages.Info(name=key, kind=messages.ACTIVE, parent=key.partition(" on ")[2])
        answer: bytes = messages.StatSnapshotResponse(info=info).SerializeToString()
        return answer

    path = tmp_path / "fake"
    with (
        answering(path, Service(SNAPSHOTS, {"Stat": stat, "Mounts": lambda *_: mounts})),
        open_service(str(path), "x", capabilities=capabilities) as client,
    ):
        assert client.target("layer") == LayerTarget("/layer", whiteouts=style)
        assert client.target("layer on base").whiteouts is WhiteoutStyle.APPLY
