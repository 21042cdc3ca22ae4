"""The program as a process: start-up cost, signals, closed and full output."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.cli import child_environment, spawn

HEAVY = ("trio", "rich", "grpc", "urllib3", "apsw", "msgspec", "pluggy", "zstandard", "isal")
ELSEWHERE = (
    "trio", "ssl", "urllib3", "stamina", "grpc", "zstandard", "isal",
    "snapcore.registry", "snapcore.archive.apply", "snapcore.gc.collector",
    "snapcore.unpack.pool", "snapcore.unpack.unpacker", "snapcore.node.recovery",
)  # fmt: skip
"""What speaks to registries, unpacks or collects, and runs tasks at the same time for that."""


@pytest.mark.parametrize("arguments", [["--help"], ["images", "--help"], ["pull", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = run_and_list(arguments, HEAVY)
    assert done.stderr == "[] 0\n"
    assert "Usage: snapcore" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["images", "ls"],
        ["images", "mount"],
        ["--format", "json", "snapshots", "ls"],
        ["content", "ls"],
        ["leases", "ls"],
    ],
)
def test_looking_at_what_is_here_imports_no_registry(arguments: list[str], tmp_path: Path) -> None:
    place = ["--root", str(tmp_path / "root"), "--snapshotter", "native"]
    assert run_and_list([*place, *arguments], ELSEWHERE).stderr == "[] 0\n"


def run_and_list(arguments: list[str], modules: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a verb; its stderr says which of the modules it has imported, and its exit code."""
    program = (
        "import sys\n"
        "from snapcore.cli.__main__ import run\n"
        f"code = run({arguments!r})\n"
        f"print([name for name in {modules!r} if name in sys.modules], code, file=sys.stderr)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )


def test_no_arguments_shows_help_and_fails() -> None:
    outcome = spawn()
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Commands:" in outcome.err


def test_version() -> None:
    outcome = spawn("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("snapcore 0.")


def test_installed_script() -> None:
    script = Path(sys.executable).with_name("snapcore")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Commands:" in done.stdout


ASYNC = """
import signal, os, sys
import trio
from snapcore.cli import __main__ as entry
from snapcore.cli import tasks

async def work():
    try:
        print("ready", flush=True)
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            print("cleaned up", flush=True)

entry.invoke = lambda _: tasks.run(work)
sys.exit(entry.run([]))
"""
SYNC = """
import signal, sys
from snapcore.cli import __main__ as entry

def work(_):
    try:
        print("ready", flush=True)
        while True:
            signal.pause()
    finally:
        print("cleaned up", flush=True)

entry.invoke = work
sys.exit(entry.run([]))
"""


@pytest.mark.parametrize("program", [ASYNC, SYNC], ids=["async", "sync"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cleans_up(program: str, number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert out == "cleaned up\n"
    assert "Traceback" not in err
    assert f"interrupted by {number.name}" in err


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["config", "show"], ["--help"]])
def test_reader_that_went_away(arguments: list[str], unbuffered: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "snapcore.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment({"PYTHONUNBUFFERED": unbuffered}),
    )
    with child:
        assert child.stdout is not None
        child.stdout.close()
        child.stdout = None
        _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_full_disk_under_stdout(unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "snapcore.cli", "config", "show"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=child_environment({"PYTHONUNBUFFERED": unbuffered}),
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr == b"snapcore: standard output: No space left on device\n"


def test_a_broken_pipe_that_is_not_stdout() -> None:
    program = (
        "import os, sys\n"
        "from snapcore.cli import __main__ as entry\n"
        "def work(_):\n"
        "    read, write = os.pipe()\n"
        "    os.close(read)\n"
        "    os.write(write, b'x')\n"
        "entry.invoke = work\n"
        "sys.exit(entry.run([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "snapcore: system call: Broken pipe\n")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    quiet = spawn("--config", missing, "config", "show")
    assert (quiet.code, quiet.err.count("\n")) == (3, 1)
    assert "none.toml" in quiet.err
    loud = spawn("--config", missing, "--log-level", "debug", "config", "show")
    assert loud.code == 3
    assert "Traceback" in loud.err
