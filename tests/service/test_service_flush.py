"""A commit is answered when it survives a power cut, and many share one sync."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from support.service import Client, refused, served

from snapcore.conformance import MemorySnapshotter, MemoryState
from snapcore.errors import DataLoss
from snapcore.labels import SNAPSHOT_REF
from snapcore.snapshots import (
    Checkpoint,
    Durability,
    FlushReport,
    Info,
    Kind,
    Labels,
    Probe,
    State,
    hookimpl,
    open_backend,
    open_snapshotter,
)


class Slow(MemorySnapshotter):
    """Commits are pending until a flush, which lasts until a test says so."""

    def __init__(self, state: MemoryState | None = None) -> None:
        super().__init__(state or MemoryState())
        self.flushes = 0
        self.committed = threading.Semaphore(0)
        self.flushing = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.failure: Exception | None = None

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        made = super().commit(name, key, labels, parent, checkpoint)
        self.committed.release()
        return replace(made, state=State.PENDING)

    @hookimpl
    def stat(self, key: str) -> Info:
        found = super().stat(key)
        return found if found.kind is not Kind.COMMITTED else replace(found, state=State.PENDING)

    @hookimpl
    def flush(self) -> FlushReport:
        self.flushes += 1
        self.flushing.release()
        assert self.go_on.acquire(timeout=20)
        if self.failure:
            raise self.failure
        return FlushReport()


def _client(tmp_path: Path, backend: Slow, durability: Durability) -> Iterator[Client]:
    snapshotter = open_backend(
        "slow", str(tmp_path), backend, Probe(usable=True), durability=durability
    )
    with served(tmp_path, snapshotter) as client:
        yield client


@pytest.fixture
def backend() -> Slow:
    return Slow()


@pytest.fixture
def client(tmp_path: Path, backend: Slow) -> Iterator[Client]:
    yield from _client(tmp_path, backend, Durability.FLUSH)


def test_commits_that_come_during_a_flush_share_the_next(client: Client, backend: Slow) -> None:
    for number in range(9):
        client.prepare(f"k{number}")
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(client.commit, "n0", "k0")
        assert backend.flushing.acquire(timeout=20)
        others = [threads.submit(client.commit, f"n{n}", f"k{n}") for n in range(1, 9)]
        for _ in range(9):
            assert backend.committed.acquire(timeout=20)
        assert not first.done()
        backend.go_on.release()
        first.result(20)
        assert backend.flushing.acquire(timeout=20)
        assert not any(other.done() for other in others)
        # One more than needed: those whose commit just then took its number begin another.
        backend.go_on.release(8)
        for other in others:
            other.result(20)
    assert backend.flushes <= 3


def test_who_comes_second_is_told_when_the_first_ones_commit_is_durable(
    client: Client, backend: Slow
) -> None:
    for key in ("k", "other"):
        client.prepare(key)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.commit, "n", "k")
        assert backend.flushing.acquire(timeout=20)
        second = threads.submit(client.commit, "n", "other")
        backend.go_on.release()
        first.result(20)
        assert backend.flushing.acquire(timeout=20)
        assert not second.done()
        backend.go_on.release()
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            second.result(20)


def test_a_supplied_layer_is_durable_when_its_client_is_told(tmp_path: Path) -> None:
    backend = Slow(MemoryState(remote=frozenset({"remote"})))
    for client in _client(tmp_path, backend, Durability.FLUSH):
        backend.go_on.release()
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            client.prepare("k", labels={SNAPSHOT_REF: "remote"})
        assert backend.flushes == 1
        assert client.names() == ["remote"]


def test_a_flush_that_fails_fails_all_who_wait(client: Client, backend: Slow) -> None:
    backend.failure = DataLoss("the disk is gone")
    client.prepare("k")
    backend.go_on.release()
    with refused(grpc.StatusCode.DATA_LOSS, "the disk is gone"):
        client.commit("n", "k")
    client.prepare("later")
    with refused(grpc.StatusCode.DATA_LOSS, "opened again"):
        client.commit("m", "later")


def test_nothing_is_flushed_without_durability(tmp_path: Path, backend: Slow) -> None:
    for client in _client(tmp_path, backend, Durability.NONE):
        client.prepare("k")
        client.commit("n", "k")
    assert backend.flushes == 0


def test_what_was_answered_is_durable_on_a_real_disk(tmp_path: Path) -> None:
    with (
        open_snapshotter("native", str(tmp_path / "native")) as native,
        served(tmp_path, native) as client,
    ):
        client.prepare("k")
        client.commit("n", "k")
        assert native.stat("n").state is State.DURABLE
