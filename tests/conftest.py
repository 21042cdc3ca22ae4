"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from snapcore.mount import mount_table


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where there is none, with the reason in the report."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("needs_root"):
            item.add_marker(pytest.mark.skip(reason="needs root: mounts, devices or foreign ids"))


@pytest.fixture
def census() -> Iterator[None]:
    """Fail a test that leaves file descriptors, mounts, threads or children behind."""
    before = _count()
    yield
    after = _count()
    leaked = {name: after[name] - before[name] for name in after if after[name] > before[name]}
    assert not leaked, f"left behind: {leaked}"


def _count() -> dict[str, int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        processes = len(children.read().split())
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "mounts": sum(1 for _ in mount_table()),
        "threads": sum(1 for t in threading.enumerate() if not t.daemon),
        "processes": processes,
    }


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on trio, as the library does."""
    return "trio"
