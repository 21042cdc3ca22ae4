"""Checks of what never answers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from snapcore.conformance import MemoryState, Outcome, Subject, open_memory
from snapcore.conformance.checks import ALL_CHECKS
from snapcore.conformance.deadline import deadline
from snapcore.conformance.harness import CheckFailed, Harness
from snapcore.conformance.peer import Peer
from snapcore.conformance.run import run_check
from snapcore.snapshots import open_snapshotter


def _hang(harness: Harness) -> None:
    threading.Event().wait()


def test_a_check_that_hangs_fails_and_the_next_one_runs(tmp_path: Path, census: None) -> None:
    stuck = replace(next(check for check in ALL_CHECKS if not check.mounts), function=_hang)
    state = MemoryState()
    subject = Subject(lambda root: open_memory(state, root), mountable=False, installed=False)
    result = run_check(stuck, subject, str(tmp_path), 0.05)
    assert (result.outcome, "0.05 seconds" in result.reason) == (Outcome.FAILED, True)
    assert list(tmp_path.iterdir()) == []
    fine = replace(stuck, function=lambda harness: None)
    assert run_check(fine, subject, str(tmp_path), 60).outcome is Outcome.PASSED


def test_the_timer_of_somebody_else_goes_on() -> None:
    before = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    with pytest.raises(CheckFailed), deadline(0.01):
        threading.Event().wait()
    assert signal.getsignal(signal.SIGALRM) is before[1]
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (before[0][0] > 0)


def test_another_process_that_hangs_is_killed(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _command, **pipes: popen(sleeper, **pipes))
    with (
        open_snapshotter("native", str(tmp_path / "root")) as snapshotter,
        pytest.raises(CheckFailed),
        Peer(snapshotter) as peer,
        deadline(0.2),
    ):
        peer.wait_until_open()
