from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest
from support.distributions import THIRD_PARTY, installed

from snapcore.errors import (
    ContractError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
)
from snapcore.snapshots import (
    HookTrace,
    Options,
    Snapshotter,
    Trace,
    WrapperChoice,
    WrapperFactory,
    hookimpl,
    open_snapshotter,
)


class Open(Protocol):
    def __call__(self, *wrappers: WrapperChoice, trace: Trace | None = None) -> Snapshotter: ...


class Faults(Protocol):
    def __call__(
        self, hook: str, number: int, error: BaseException, late: bool = False
    ) -> WrapperFactory: ...


class Cancelled(BaseException):
    pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "acme"


@pytest.fixture
def opened(root: Path, census: None) -> Iterator[Open]:
    snapshotters: list[Snapshotter] = []

    def open_acme(*wrappers: WrapperChoice, trace: Trace | None = None) -> Snapshotter:
        snapshotters.append(open_snapshotter("acme", str(root), wrappers=wrappers, trace=trace))
        return snapshotters[-1]

    with installed(THIRD_PARTY):
        yield open_acme
        for snapshotter in snapshotters:
            snapshotter.close()


@pytest.fixture
def faults(opened: Open) -> Faults:
    return cast(Faults, importlib.import_module("acme_snapcore.faults").FaultFactory)


def test_a_strangers_quota(opened: Open, root: Path) -> None:
    snapshotter = opened("acme-quota")
    (mount,) = snapshotter.prepare("k")
    Path(mount.source, "big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(ResourceExhausted, match=r"commit 'k' as 'n' in 'acme': \d+ bytes"):
        snapshotter.commit("n", "k")
    with pytest.raises(ResourceExhausted, match="prepare 'other'"):
        snapshotter.prepare("other")
    assert [info.name for info in snapshotter.walk()] == ["k"]
    Path(mount.source, "big").unlink()
    assert snapshotter.commit("n", "k").name == "n"


def test_a_strangers_faults(opened: Open) -> None:
    snapshotter = opened("acme-faults")
    snapshotter.prepare("first")
    with pytest.raises(Unavailable, match="injected"):
        snapshotter.prepare("second")
    snapshotter.prepare("third")
    assert [info.name for info in snapshotter.walk()] == ["first", "third"]


def test_a_fault_after_the_call(opened: Open, faults: Faults) -> None:
    snapshotter = opened(faults("prepare", 1, Unavailable("lost answer"), late=True))
    with pytest.raises(Unavailable, match="lost answer"):
        snapshotter.prepare("k")
    assert snapshotter.stat("k").name == "k"


@pytest.mark.parametrize(
    ("raised", "mapped"),
    [
        (NotFound("x"), NotFound),
        (OSError(28, "No space left on device"), ResourceExhausted),
        (OSError(5, "Input/output error"), DataLoss),
        (MemoryError(), ResourceExhausted),
        (ValueError("bad"), ContractError),
        (StopIteration(), ContractError),
        (Cancelled(), Cancelled),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_a_wrapper_raises_is_mapped(
    opened: Open, faults: Faults, raised: BaseException, mapped: type[BaseException]
) -> None:
    snapshotter = opened(faults("stat", 1, raised))
    with pytest.raises(mapped) as caught:
        snapshotter.stat("k")
    assert type(caught.value) is mapped
    if mapped is ContractError:
        assert "FaultFactory" in str(caught.value)
        assert "stat raised" in str(caught.value)


def test_what_the_backend_raises_names_the_backend(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshotter = opened("acme-quota")

    def fail(self: object, key: str) -> None:
        raise LookupError(key)

    monkeypatch.setattr("snapcore.snapshots.MetaStore.stat", fail)
    with pytest.raises(ContractError) as caught:
        snapshotter.stat("k")
    assert "snapshotter 'acme' (distribution acme-snapcore 1.2.3)" in str(caught.value)
    assert "LookupError: k" in str(caught.value)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_checkpoint_cancels(opened: Open) -> None:
    snapshotter = opened("acme-quota")
    snapshotter.prepare("k")

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        snapshotter.commit("n", "k", checkpoint=cancel)
    assert snapshotter.stat("k").name == "k"


def recorder(name: str, log: list[str]) -> WrapperFactory:
    class Recorder:
        @hookimpl(wrapper=True)
        def stat(self, key: str) -> Generator[None, object, object]:
            log.append(f"{name} in {key}")
            try:
                return (yield)
            finally:
                log.append(f"{name} out")

    return lambda _name, _root, _options: Recorder()


def test_the_first_named_wrapper_is_the_outermost(opened: Open) -> None:
    log: list[str] = []
    snapshotter = opened(recorder("a", log), recorder("b", log))
    with pytest.raises(NotFound):
        snapshotter.stat("k")
    assert log == ["a in k", "b in k", "b out", "a out"]


def test_a_factory_is_told_what_it_wraps(opened: Open, root: Path) -> None:
    told: list[tuple[str, str, Options]] = []

    def factory(name: str, root: str, options: Options) -> object:
        told.append((name, root, options))
        return object()

    opened(factory)
    assert [(name, where) for name, where, _ in told] == [("acme", str(root))]
    assert told[0][2]["speed"] == "fast"


class Swallows:
    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, object, None]:
        yield


class Replaces:
    @hookimpl
    def stat(self, key: str) -> object:
        return key


class Unknown:
    @hookimpl(wrapper=True)
    def clone(self) -> Generator[None, object, object]:
        return (yield)


class WrongArgument:
    @hookimpl(wrapper=True)
    def stat(self, name: str) -> Generator[None, object, object]:
        return (yield)


def making(kind: Callable[[], object]) -> WrapperFactory:
    def factory(name: str, root: str, options: Options) -> object:
        return kind()

    return factory


def test_a_wrapper_that_swallows_the_answer(opened: Open) -> None:
    snapshotter = opened(making(Swallows))
    snapshotter.prepare("k")
    with pytest.raises(ContractError, match="stat returned nothing"):
        snapshotter.stat("k")


@pytest.mark.parametrize("kind", [Replaces, Unknown, WrongArgument, lambda: 1 / 0])
def test_wrappers_that_do_not_fit(opened: Open, kind: Callable[[], object]) -> None:
    # The backend that was opened before is closed again: the census would see its files.
    with pytest.raises(ContractError, match="making"):
        opened(making(kind))


def test_missing_wrappers(opened: Open, root: Path) -> None:
    with pytest.raises(NotFound, match=r"no wrapper 'quota'.*acme-faults, acme-quota"):
        opened("quota")
    assert not root.exists()


def test_timing(opened: Open) -> None:
    snapshotter = opened()
    assert snapshotter.timings() == {}
    snapshotter.prepare("k")
    snapshotter.stat("k")
    with pytest.raises(NotFound):
        snapshotter.stat("missing")
    timings = snapshotter.timings()
    assert {hook: timing.count for hook, timing in timings.items()} == {"prepare": 1, "stat": 2}
    assert 0 < timings["stat"].maximum < timings["stat"].total


def test_tracing(opened: Open) -> None:
    calls: list[HookTrace] = []
    snapshotter = opened(trace=calls.append)
    snapshotter.prepare("k", labels={"a": "1"})
    snapshotter.target("k")
    with pytest.raises(NotFound):
        snapshotter.stat("missing")
    assert [(call.hook, call.depth, call.failed) for call in calls] == [
        ("prepare", 0, False),
        ("stat", 1, False),
        ("mounts", 1, False),
        ("target", 0, False),
        ("stat", 0, True),
    ]
    assert calls[0].arguments == {
        "key": "'k'",
        "parent": "''",
        "labels": "{'a': '1'}",
        "checkpoint": "no_checkpoint",
    }
    assert str(calls[4]).startswith("acme.stat(key='missing') !! NotFound(")
    assert str(calls[1]).startswith("  acme.stat(key='k') -> Info(")


def test_tracing_survives_a_cancelled_call(opened: Open, faults: Faults) -> None:
    calls: list[HookTrace] = []
    snapshotter = opened(faults("stat", 1, Cancelled()), trace=calls.append)
    with pytest.raises(Cancelled):
        snapshotter.stat("k")
    with pytest.raises(NotFound):
        snapshotter.stat("k")
    assert [(call.depth, call.failed) for call in calls] == [(0, True), (0, True)]


def test_threads_share_a_wrapped_snapshotter(opened: Open) -> None:
    snapshotter = opened("acme-quota")
    errors: list[SnapcoreError] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                snapshotter.prepare(f"{number}-{turn}")
                snapshotter.commit(f"done {number}-{turn}", f"{number}-{turn}")
        except SnapcoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(list(snapshotter.walk())) == 20
    assert snapshotter.timings()["commit"].count == 20


def test_closed_is_closed(opened: Open) -> None:
    snapshotter = opened()
    snapshotter.prepare("k")
    pages = snapshotter.walk()
    assert snapshotter.close()
    assert not snapshotter.close()
    for call in (snapshotter.stat, snapshotter.prepare, snapshotter.mounts, snapshotter.remove):
        with pytest.raises(FailedPrecondition, match="closed"):
            call("k")
    with pytest.raises(FailedPrecondition, match="closed"):
        next(pages)


def test_nothing_is_committed_after_a_failed_flush(opened: Open, faults: Faults) -> None:
    snapshotter = opened(faults("flush", 1, DataLoss("the disk said no")))
    snapshotter.prepare("k")
    with pytest.raises(DataLoss, match="the disk said no"):
        snapshotter.flush()
    with pytest.raises(DataLoss, match="earlier flush failed"):
        snapshotter.flush()
    with pytest.raises(DataLoss, match="earlier flush failed"):
        snapshotter.commit("n", "k")
    assert snapshotter.stat("k").name == "k"
    assert snapshotter.timings()["flush"].count == 1


def test_the_facade_checks_arguments_before_any_plugin(opened: Open) -> None:
    snapshotter = opened()
    snapshotter.prepare("k")
    info = snapshotter.stat("k")
    for call in (
        lambda: snapshotter.prepare("a\n"),
        lambda: snapshotter.view(""),
        lambda: snapshotter.commit("", "k"),
        lambda: snapshotter.prepare("a", labels={"x": "y" * 5000}),
        lambda: snapshotter.commit("a", "k", labels={"": "y"}),
        lambda: snapshotter.walk(["name==", "kind"]),
        lambda: snapshotter.walk(["nmae==k"]),
        lambda: snapshotter.walk("name"),
        lambda: snapshotter.update(info, "labels.a"),
    ):
        with pytest.raises(InvalidArgument):
            call()
    assert snapshotter.timings().keys() == {"prepare", "stat"}


def test_walk_goes_through_pages(opened: Open) -> None:
    snapshotter = opened()
    for key in "edcba":
        snapshotter.prepare(key)
    assert [info.name for info in snapshotter.walk(page=2)] == list("abcde")
    assert snapshotter.timings()["walk"].count == 4


def test_walk_that_does_not_advance(opened: Open) -> None:
    class Stuck:
        """Answers every page with the first one."""

        def __init__(self) -> None:
            self.first: object = None

        @hookimpl(wrapper=True)
        def walk(self) -> Generator[None, object, object]:
            answer = yield
            self.first = self.first or answer
            return self.first

    snapshotter = opened(making(Stuck))
    snapshotter.prepare("k")
    with pytest.raises(ContractError, match="walk gave 'k' after 'k'"):
        list(snapshotter.walk())
