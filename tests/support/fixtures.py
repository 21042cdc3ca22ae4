"""Fixtures and rules that the tests of every room and of every plugin share."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Iterator
from typing import Final

import pytest

from snapcore.linux import Cap, MountFlag, Namespace, effective_capabilities, mount, unshare
from snapcore.mount import mount_table

LONG_SECONDS: Final = 900
"""What a test marked `long` may take unless it says so itself."""


def pytest_configure() -> None:
    """Give each test process its own mounts: none outlives it, none is seen by its neighbour."""
    if Cap.SYS_ADMIN in effective_capabilities():
        unshare(Namespace.MOUNT)
        mount("", "/", "", MountFlag.REC | MountFlag.PRIVATE, "")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Let pytest delete the very deep trees that tests make: it recurses, one open file a level."""
    sys.setrecursionlimit(50_000)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long tests their time; skip what needs root where there is none, and say so."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
    if Cap.SYS_ADMIN in effective_capabilities():
        return
    for item in items:
        if item.get_closest_marker("needs_root"):
            item.add_marker(pytest.mark.skip(reason="needs root: mounts, devices or foreign ids"))


@pytest.fixture
def census() -> Iterator[None]:
    """Fail a test that leaves file descriptors, mounts, threads or children behind."""
    before = _seen()
    yield
    after = _seen()
    leaked = {
        kind: sorted(after[kind] - before[kind])
        for kind in after
        if len(after[kind]) > len(before[kind])
    }
    assert not leaked, f"left behind: {leaked}"


def _seen() -> dict[str, set[str]]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        processes = set(children.read().split())
    return {
        "fds": set(_descriptors()),
        "mounts": {f"{entry.id} {entry.target}" for entry in mount_table()},
        "threads": {t.name for t in threading.enumerate() if not t.daemon},
        "processes": processes,
    }


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            yield f"{name} {os.readlink(f'/proc/self/fd/{name}')}"


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on trio, as the library does."""
    return "trio"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines that tests have recorded as properties named `shown`."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "shown"
    ]
    if lines:
        terminalreporter.section("what was found")
        for line in sorted(lines):
            terminalreporter.write_line(line)
