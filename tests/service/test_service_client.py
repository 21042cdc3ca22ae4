"""A snapshotter behind a socket is a snapshotter: the client half."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from support.answers import Service, Unary, answering
from support.remote import client as client
from support.remote import faked
from support.remote import memory as memory

from snapcore import errors
from snapcore.conformance import MemorySnapshotter, MemoryState
from snapcore.mount import Mount
from snapcore.oci import WhiteoutStyle
from snapcore.service import serving
from snapcore.service.client import open_service
from snapcore.service.names import INTROSPECTION, SNAPSHOTS
from snapcore.service.proto import introspection_pb2, mount_pb2
from snapcore.service.proto import snapshots_pb2 as messages
from snapcore.snapshots import (
    Capability,
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
