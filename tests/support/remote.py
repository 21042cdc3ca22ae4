"""Snapshotters behind a socket, for tests of the client half."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snapcore.conformance import MemoryState, open_memory
from snapcore.service import serving
from snapcore.service.client import open_service
from snapcore.service.names import SNAPSHOTS
from snapcore.snapshots import (
    Snapshotter,
)
from support.answers import Service, Stream, Unary, answering

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
