"""Killing a process at every system call that changes files, one after the other."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

_CALLS: Final = (
    "open", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "fchmod", "ftruncate",
)  # fmt: skip


def killed_at(work: Callable[[], None], *, before: bool) -> Iterator[int]:
    """Run `work` in children, the n-th of which is killed at its n-th call; yield each n.

    Ends when a child lives through all its calls.

    Args:
        work: opens everything that it uses by itself, since it runs in a forked child.
        before: kill before the call takes effect, else right after it.
    """
    point = 0
    while True:
        point += 1
        child = os.fork()
        if child == 0:
            _run(work, point, before=before)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the child failed; see its traceback"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield point


def _run(work: Callable[[], None], point: int, *, before: bool) -> NoReturn:
    status = 1
    try:
        _arm(point, before=before)
        work()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def _arm(point: int, *, before: bool) -> None:
    calls = 0

    def armed(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            mine = calls
            if before and mine == point:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*arguments, **named)
            finally:
                if mine == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, name, call)

    for name in _CALLS:
        armed(name)
