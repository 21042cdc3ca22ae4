"""Real pulls in which single system calls fail or kill: `strace --inject`."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Final

import pytest
from support.killing import SCENARIOS, Injected, Injection, Sweeper
from support.layout import File, LayoutBuilder, tar_of
from support.roots import Served, served
from support.warm import Warm

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]
PULL: Final = next(each for each in SCENARIOS if each.name == "pull")
EIO: Final = "error=EIO"
SYNCS: Final = ("fsync", "fdatasync", "syncfs")
# At which of a thread's syncs: later ones are of what is promised already.
PROMISED: Final = (("fsync", range(1, 11)), ("fdatasync", (1, 2, 5)), ("syncfs", (1,)))
LOST: Final = re.compile(r"snapcore: .*(did not reach the disk|Input/output error)")
# Each at a few of its calls, as far as there are so many in one thread.
FATAL: Final = (
    ("rename", (1, 2, 3)),
    ("openat", (60, 200, 260, 300)),
    ("fsync", (1, 2)),
    ("fdatasync", (1, 2, 4)),
    ("mkdir", (1, 4, 8)),
    ("mount", (1, 2)),
    ("umount2", (1,)),
    ("unlink", (1, 3, 6)),
    ("unlinkat", (1, 3)),
    ("pwrite64", (1, 5, 9, 17)),
    ("ftruncate", (1,)),
    ("syncfs", (1,)),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    builder = LayoutBuilder(tmp_path_factory.mktemp("traced") / "layout")
    layers = (
        builder.add_layer(tar_of(File("etc/motd", b"hello\n"))),
        builder.add_layer(tar_of(File("etc/more", b"more\n"))),
    )
    builder.add_image("latest", layers)
    with served(builder, layers) as image:
        yield image


@pytest.fixture
def sweeper(request: pytest.FixtureRequest, tmp_path: Path, image: Served) -> Iterator[Sweeper]:
    names = {"image": image.reference, "chain": image.chain_id}
    with Warm() as warm:
        yield Sweeper(warm, tmp_path, request.param, names)


def check_lost(done: Injected) -> None:
    """Check that a failed sync ends the pull with one sentence, and nothing is synced after it."""
    assert not done.left, (done.injection, done.left)
    if not done.happened:
        assert done.code == 0
        return
    assert (done.code, bool(LOST.match(done.said.splitlines()[-1]))) == (1, True), done.said
    whole = [line.split()[1] for line in done.log.splitlines() if "= 0" in line or "= -1" in line]
    if done.injection.calls == ("syncfs",):
        assert len([call for call in whole if call.startswith("syncfs")]) == 1, done.log


@pytest.mark.parametrize("sweeper", ["native"], indirect=True)
def test_a_sync_that_fails_is_no_pull_and_is_not_tried_again(sweeper: Sweeper) -> None:
    injections = [Injection((call,), EIO, 1) for call in SYNCS]
    for done in sweeper.inject(PULL, injections):
        assert done.happened
        check_lost(done)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sweeper", ["native", "overlay"], indirect=True)
def test_any_sync_may_fail(
    sweeper: Sweeper, record_property: Callable[[str, object], None]
) -> None:
    injections = [Injection((call,), EIO, when) for call, at in PROMISED for when in at]
    happened = 0
    for done in sweeper.inject(PULL, injections):
        check_lost(done)
        happened += done.happened
    record_property("shown", f"EIO at the nth sync: {happened} pulls refused, nothing left")
    assert happened > 5


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sweeper", ["native", "overlay"], indirect=True)
def test_a_kill_at_any_system_call(
    sweeper: Sweeper, record_property: Callable[[str, object], None]
) -> None:
    injections = [Injection((call,), "signal=KILL", when) for call, at in FATAL for when in at]
    killed = 0
    for done in sweeper.inject(PULL, injections):
        assert not done.left, (done.injection, astuple(done.left))
        killed += done.code == -signal.SIGKILL
    record_property("shown", f"kill at a system call: {killed} of {len(injections)} killed")
    # Threads that make fewer calls are not killed; which is whose is the machine's affair.
    assert killed > len(FATAL) // 2
