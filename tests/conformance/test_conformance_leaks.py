"""What a snapshotter leaves behind where one has to look for it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snapcore.conformance import CheckFailed, MemorySnapshotter, MemoryState, Subject, started
from snapcore.conformance.checks.leaks import check_nothing_is_leaked
from snapcore.snapshots import Probe, Snapshotter, open_backend

pytestmark = pytest.mark.usefixtures("census")


@dataclass
class _Left:
    """What was left behind, to be ended at last."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)


class _LeavesAProcess(MemorySnapshotter):
    """Each instance has a thread start a process, and forgets both."""

    def __init__(self, state: MemoryState, left: _Left) -> None:
        super().__init__(state)
        ready = threading.Event()

        def start() -> None:
            left.processes.append(subprocess.Popen(["sleep", "600"]))
            ready.set()
            # The process is this thread's child for as long as there is this thread.
            left.end.wait()

        left.threads.append(threading.Thread(target=start))
        left.threads[-1].start()
        ready.wait()


class _HasAGreedyProcess(MemorySnapshotter):
    """A process that all instances share opens one more file for each."""

    def __init__(self, state: MemoryState, process: subprocess.Popen[bytes]) -> None:
        super().__init__(state)
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"more\n")
        process.stdin.flush()
        process.stdout.readline()


_GREEDY = """
import os, sys
for line in sys.stdin:
    os.open("/", os.O_RDONLY)
    print(flush=True)
"""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapcore.conformance.checks.leaks._PATIENCE", 0.1)


@pytest.fixture
def left() -> Iterator[_Left]:
    left = _Left()
    yield left
    left.end.set()
    for thread in left.threads:
        thread.join()
    for process in left.processes:
        process.kill()
        process.communicate()


def _open(root: str, backend: MemorySnapshotter) -> Snapshotter:
    Path(root).mkdir(exist_ok=True)
    return open_backend("memory", root, backend, Probe(usable=True))


def test_a_process_that_another_thread_has_started_is_seen(tmp_path: Path, left: _Left) -> None:
    state = MemoryState()
    subject = Subject(lambda root: _open(root, _LeavesAProcess(state, left)))
    with (
        started(subject, str(tmp_path)) as harness,
        pytest.raises(CheckFailed, match=r"held after everything was closed: .*'process "),
    ):
        check_nothing_is_leaked(harness)


def test_what_a_process_below_this_one_holds_is_seen(tmp_path: Path, left: _Left) -> None:
    command = ["python3", "-c", _GREEDY]
    left.processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    state = MemoryState()
    subject = Subject(lambda root: _open(root, _HasAGreedyProcess(state, left.processes[0])))
    with (
        started(subject, str(tmp_path)) as harness,
        pytest.raises(CheckFailed, match=f"'descriptor [0-9]+ of {left.processes[0].pid}'"),
    ):
        check_nothing_is_leaked(harness)
