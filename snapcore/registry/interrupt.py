"""Blocking network work in trio worker threads that a cancel really ends.

A thread that sits in recv(2) does not notice trio's cancellation. So each worker call carries
an `Interrupt`: the connection in use registers its socket there, and the cancelled task shuts
that socket down, which wakes the thread at once. The thread itself is always waited for; no
half-written state is ever left to a thread nobody watches.
"""

from __future__ import annotations

import contextvars
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import outcome
import trio

_T = TypeVar("_T")


class _Connected(Protocol):
    """A socket, or what stands for one."""

    def fileno(self) -> int:
        """Return the descriptor, -1 once it is closed."""


class Interrupt:
    """The sockets that one worker call is using, and whether it was told to stop.

    Used by two threads: the worker registers, the event loop interrupts.
    """

    __slots__ = ("_lock", "_socket", "_stopped")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._socket: socket.socket | None = None
        self._stopped = False

    def register(self, connected: _Connected | None) -> None:
        """Note the socket that the worker is about to wait for."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            # A duplicate: wrapping a socket in TLS takes its descriptor away, and what wraps TLS
            # in TLS is no socket at all.
            number = -1 if connected is None else connected.fileno()
            self._socket = None if number < 0 else socket.socket(fileno=os.dup(number))
            if self._stopped:
                self._shut_down()

    def stop(self) -> None:
        """Wake the worker: every read on its socket ends now."""
        with self._lock:
            self._stopped = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


# A context variable, because the connection objects that must find it are made inside urllib3;
# trio gives each worker call a context of its own.
_current: contextvars.ContextVar[Interrupt] = contextvars.ContextVar("registry_interrupt")


def register_socket(connected: _Connected | None) -> None:
    """Tell the worker call of this thread, if there is one, which socket it waits for."""
    interrupt = _current.get(None)
    if interrupt is not None:
        interrupt.register(connected)


def checkpoint() -> None:
    """Raise trio's cancellation in a worker thread whose caller was cancelled.

    Called from outside a worker thread it does nothing, so that blocking code stays usable
    from plain threads.
    """
    if _current.get(None) is not None:
        trio.from_thread.check_cancelled()


async def run_blocking(work: Callable[[], _T], limiter: trio.CapacityLimiter | None = None) -> _T:
    """Run `work` in a worker thread and return its result.

    Args:
        work: blocking code; its sockets are shut down when this task is cancelled.
        limiter: counts the threads that may run at the same time; None for trio's default.

    Returns:
        What `work` returned, even if the task was cancelled meanwhile.

    Raises:
        trio.Cancelled: the task was cancelled before the thread began, or `work` failed after
            it; the thread has ended.
    """
    interrupt = Interrupt()

    def call() -> _T:
        _current.set(interrupt)
        try:
            return work()
        except BaseException:
            # A shut-down socket looks like a network error; the cancel is the true cause.
            checkpoint()
            raise
        finally:
            # The connection may be in the pool again: a late stop must not touch it.
            interrupt.register(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_when_cancelled, interrupt)
        result = await outcome.acapture(_in_thread, call, limiter)
        nursery.cancel_scope.cancel()
    return result.unwrap()


async def _in_thread(call: Callable[[], _T], limiter: trio.CapacityLimiter | None) -> _T:
    return await trio.to_thread.run_sync(call, abandon_on_cancel=False, limiter=limiter)


async def _stop_when_cancelled(interrupt: Interrupt) -> None:
    # Swallowed on purpose: the worker's result must not be lost, as it may own locks and files.
    # The caller's next checkpoint raises the cancel again.
    with suppress(trio.Cancelled):
        await trio.sleep_forever()
    interrupt.stop()
