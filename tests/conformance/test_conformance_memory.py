"""The reference in memory passes every check that mounts nothing, without root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

import pytest

from snapcore import labels as label_keys
from snapcore.conformance import ALL_CHECKS, MemoryState, OpenRoot, open_memory
from snapcore.conformance.suite import SnapshotterConformance
from snapcore.snapshots import Snapshotter

_REF = "sha256:" + "a" * 64


def _open_root(state: MemoryState) -> OpenRoot:
    def open_root(root: str) -> Snapshotter:
        os.makedirs(root, exist_ok=True)
        return open_memory(state, root)

    return open_root


class TestMemory(SnapshotterConformance):
    mountable = False
    installed = False

    @pytest.fixture
    def open_root(self) -> OpenRoot:
        return _open_root(MemoryState())


class TestRemoteMemory(SnapshotterConformance):
    mountable = False
    installed = False
    supply: ClassVar[Mapping[str, str]] = {label_keys.SNAPSHOT_REF: _REF}

    @pytest.fixture(params=["remote", "staged"])
    def open_root(self, request: pytest.FixtureRequest) -> OpenRoot:
        refs = frozenset([_REF])
        remote = request.param == "remote"
        return _open_root(MemoryState(remote=refs) if remote else MemoryState(staged=refs))


def test_most_checks_mount_nothing() -> None:
    assert sum(not check.mounts for check in ALL_CHECKS) >= 40
