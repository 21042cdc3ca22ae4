"""Every method of the served interface, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.service import Client, refused, served

from snapcore.conformance import MemoryState, open_memory
from snapcore.labels import GC_ROOT, OWNER, SNAPSHOT_REF
from snapcore.snapshots import Kind, Snapshotter, open_snapshotter

VIEW, ACTIVE, COMMITTED = 1, 2, 3
CODE = grpc.StatusCode


@pytest.fixture
def memory(tmp_path: Path) -> Snapshotter:
    (tmp_path / "memory").mkdir()
    state = MemoryState(remote=frozenset({"remote"}))
    return open_memory(state, str(tmp_path / "memory"))


@pytest.fixture
def client(tmp_path: Path, memory: Snapshotter) -> Iterator[Client]:
    with served(tmp_path, memory) as client:
        yield client


def test_a_layer_and_a_container_on_it(client: Client) -> None:
    assert client.prepare("extract", labels={"a": "1"}) == [("memory", "1", ["rw"])]
    client.commit("base", "extract", {"b": "2"})
    assert client.prepare("container", "base") == client.mounts("container")
    assert client.view("looker", "base") == [("memory", "3", ["ro"])]
    found = {name: client.stat(name) for name in ("base", "container", "looker")}
    assert [info.kind for info in found.values()] == [COMMITTED, ACTIVE, VIEW]
    assert [info.parent for info in found.values()] == ["", "base", "base"]
    assert dict(found["base"].labels) == {"b": "2"}
    with refused(CODE.NOT_FOUND, "'extract'"):
        client.stat("extract")
    with refused(CODE.FAILED_PRECONDITION):
        client.remove("base")
    for name in ("container", "looker", "base"):
        client.remove(name)
    client.cleanup()
    assert client.pages() == []


def test_what_others_made_is_not_the_clients(client: Client, memory: Snapshotter) -> None:
    memory.prepare("ours", "")
    client.prepare("theirs")
    assert client.names() == ["theirs"]
    with refused(CODE.FAILED_PRECONDITION, "'ours' was not made through this service"):
        client.remove("ours")
    assert memory.stat("ours").kind is Kind.ACTIVE


def test_times_are_the_backends_to_the_nanosecond(client: Client, memory: Snapshotter) -> None:
    client.prepare("k")
    stored, sent = memory.stat("k"), client.stat("k")
    assert sent.created_at.ToNanoseconds() == stored.created == stored.updated
    changed = client.update("k", {"a": "1"})
    assert changed.updated_at.ToNanoseconds() == memory.stat("k").updated > stored.updated
    assert changed.created_at.ToNanoseconds() == stored.created


def test_commit_on_another_parent(client: Client) -> None:
    for name in ("below", "above"):
        client.prepare("key")
        client.commit(name, "key", parent="below" if name == "above" else "")
    assert client.stat("above").parent == "below"


def test_a_remote_snapshot_is_made_available_by_the_backend(
    client: Client, memory: Snapshotter
) -> None:
    with refused(CODE.ALREADY_EXISTS):
        client.prepare("key", labels={SNAPSHOT_REF: "remote"})
    assert dict(client.stat("remote").labels) == {SNAPSHOT_REF: "remote"}
    assert OWNER in memory.stat("remote").labels


def test_a_list_comes_in_pages_of_100(client: Client) -> None:
    names = [f"k{number:03}" for number in range(250)]
    for name in names:
        client.prepare(name)
    pages = client.pages()
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [info.name for page in pages for info in page] == names
    assert client.names("name~=^k1") == names[100:200]


def test_a_page_ends_early_where_infos_are_large(client: Client) -> None:
    large = {f"label-{number}": "x" * 4000 for number in range(250)}
    for name in ("a", "b", "c"):
        client.prepare(name, labels=large)
    assert [len(page) for page in client.pages()] == [2, 1]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        pytest.param(["kind==active"], ["a", "v1"], id="kind"),
        pytest.param(["parent==base,kind==view"], ["v"], id="and"),
        pytest.param(["name==a", "name==v"], ["a", "v"], id="or"),
        pytest.param(['labels."x/y"==1'], ["a"], id="label"),
        pytest.param(["labels.foo!=bar"], ["a", "base", "v", "v1"], id="absent"),
    ],
)
def test_filters(client: Client, filters: list[str], names: list[str]) -> None:
    client.prepare("extract")
    client.commit("base", "extract")
    client.prepare("a", labels={"x/y": "1"})
    client.prepare("v1")
    client.view("v", "base")
    assert client.names(*filters) == names


def test_update_masks(client: Client) -> None:
    client.prepare("k", labels={"a": "1", "b": "2"})
    assert dict(client.update("k", {"c": "3"}).labels) == {"c": "3"}
    changed = client.update("k", {"a": "1", "c": "", "d": "4"}, ["labels.a", "labels.c"])
    assert dict(changed.labels) == {"a": "1"}
    assert dict(client.update("k", {"e": "5"}, ["labels"]).labels) == {"e": "5"}
    assert dict(client.stat("k").labels) == {"e": "5"}
    with refused(CODE.INVALID_ARGUMENT, "'parent'"):
        client.update("k", {}, ["parent"])


def test_expressions_have_the_syntax_of_containerds(client: Client) -> None:
    client.prepare("k")
    assert client.names(r"name~=/^\pL\z/") == ["k"]
    with refused(CODE.INVALID_ARGUMENT, "invalid perl operator"):
        client.names("name~=/(?=k)/")


def test_labels_do_not_grow_by_updates_of_single_ones(client: Client) -> None:
    client.prepare("k", labels={f"{number}": "x" for number in range(1000)})
    more = {f"more-{number}": "y" for number in range(24)}
    client.update("k", more, [f"labels.{name}" for name in more])
    with refused(CODE.INVALID_ARGUMENT, "1025 labels; a snapshot has 1024 at most"):
        client.update("k", {"one": "z"}, ["labels.one"])
    client.update("k", {"0": "", "one": "z"}, ["labels.0", "labels.one"])
    assert len(client.stat("k").labels) == 1024
    assert dict(client.update("k", {"a": "1"}, ["labels"]).labels) == {"a": "1"}


class TestOwner:
    """What the client made is marked as its own, and it never sees how."""

    FILTERS = (
        f'labels."{OWNER}"',
        f"labels.{OWNER.replace('/', '.')}",
        f'labels."{OWNER}"==service',
        'labels."snapcore.io\\x2fowner"',
    )

    def test_is_set_on_all_that_is_made(self, client: Client, memory: Snapshotter) -> None:
        client.prepare("extract", labels={OWNER: "mine"})
        assert memory.stat("extract").labels == {OWNER: "service"}
        client.commit("base", "extract", {OWNER: ""})
        client.view("view", "base")
        assert {info.labels[OWNER] for info in memory.walk()} == {"service"}

    @pytest.mark.parametrize(
        ("labels", "paths"),
        [
            pytest.param({"a": "1"}, (), id="all"),
            pytest.param({OWNER: ""}, ("labels",), id="labels"),
            pytest.param({"a": ""}, ("labels.a",), id="one"),
            pytest.param({OWNER: "mine"}, (f"labels.{OWNER}",), id="the-label"),
        ],
    )
    def test_is_set_by_every_update(
        self, client: Client, memory: Snapshotter, labels: dict[str, str], paths: tuple[str, ...]
    ) -> None:
        client.prepare("k", labels={"a": "0"})
        answer = client.update("k", labels, paths)
        assert memory.stat("k").labels[OWNER] == "service"
        assert OWNER not in answer.labels
        if paths == (f"labels.{OWNER}",):
            assert dict(answer.labels) == {"a": "0"}

    def test_nobody_gets_what_was_not_made_through_the_service(
        self, client: Client, memory: Snapshotter
    ) -> None:
        memory.prepare("ours", labels={"a": "0", GC_ROOT: "1"})
        for call in (
            lambda: client.update("ours", {"b": "1"}, ()),
            lambda: client.update("ours", {"b": "1"}, ("labels.b",)),
            lambda: client.commit("taken", "ours"),
            lambda: client.remove("ours"),
        ):
            with refused(CODE.FAILED_PRECONDITION, "'ours' was not made through this service"):
                call()
        assert memory.stat("ours").labels == {"a": "0", GC_ROOT: "1"}

    def test_is_in_no_answer_and_found_by_no_filter(self, client: Client) -> None:
        client.prepare("k", labels={"a": "1"})
        assert dict(client.stat("k").labels) == {"a": "1"}
        assert [dict(info.labels) for page in client.pages() for info in page] == [{"a": "1"}]
        assert [client.names(text) for text in self.FILTERS] == [[]] * len(self.FILTERS)
        assert client.names(f'labels."{OWNER}"!=service') == ["k"]


def test_the_only_backend_answers_to_any_name(client: Client, memory: Snapshotter) -> None:
    for name in ("", "memory", "overlayfs"):
        Client(client.channel, name).prepare(f"for {name}")
    assert len(list(memory.walk())) == 3


def test_the_request_chooses_among_several(tmp_path: Path, memory: Snapshotter) -> None:
    with (
        open_snapshotter("native", str(tmp_path / "native")) as native,
        served(tmp_path, memory, native) as client,
    ):
        Client(client.channel, "native").prepare("k")
        assert [info.kind for info in native.walk()] == [Kind.ACTIVE]
        assert list(memory.walk()) == []
        # As containerd must call it, which has a `native` of its own.
        Client(client.channel, "snapcore-native").stat("k")
        for name in ("", "overlay", "snapcore-"):
            with refused(CODE.INVALID_ARGUMENT, "there are memory, native"):
                Client(client.channel, name).stat("k")


@pytest.mark.needs_root
def test_usage_and_mounts_of_a_real_backend(tmp_path: Path) -> None:
    with (
        open_snapshotter("overlay", str(tmp_path / "overlay")) as overlay,
        served(tmp_path, overlay) as client,
    ):
        ((kind, source, options),) = client.prepare("k")
        assert (kind, options) == ("bind", ["rbind", "rw"])
        Path(source, "file").write_bytes(b"x" * 100_000)
        client.commit("base", "k")
        size, inodes = client.usage("base")
        assert (size, inodes) == (overlay.usage("base").size, 2)
        assert size > 100_000
        client.remove("base")
        client.cleanup()
        assert not Path(source).exists()


def test_health(client: Client) -> None:
    assert client.health() == client.health("containerd.services.snapshots.v1.Snapshots") == 1
    with refused(CODE.NOT_FOUND):
        client.health("something.Else")
