"""Running async work so that Ctrl-C and SIGTERM cancel it and clean-up still runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from snapcore.cli.exits import Interrupted
from snapcore.cli.logs import silence_retries

_T = TypeVar("_T")


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run `work` under trio; the first signal cancels it, further ones change nothing.

    Raises:
        Interrupted: a signal came; whatever `work` had to undo has been undone.
    """
    silence_retries()
    return trio.run(_guarded, work)


async def _guarded(work: Callable[[], Awaitable[_T]]) -> _T:
    caught: list[int] = []
    result: list[_T] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch, nursery.cancel_scope, caught)
        result.append(await work())
        nursery.cancel_scope.cancel()
    if not result:
        raise Interrupted(caught[0])
    return result[0]


async def _watch(
    scope: trio.CancelScope,
    caught: list[int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            caught.append(number)
            print("snapcore: stopping and cleaning up …", file=sys.stderr, flush=True)
            scope.cancel()
