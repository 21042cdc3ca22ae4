"""Worker threads and the cancels that must end them."""

from __future__ import annotations

import socket

import pytest
import trio

from snapcore.errors import Unavailable
from snapcore.registry.interrupt import checkpoint, register_socket, run_blocking


async def test_results_and_failures_come_back() -> None:
    assert await run_blocking(lambda: "value") == "value"

    def fail() -> None:
        raise Unavailable("told as it is")

    # Not wrapped in a group, though there is a nursery inside.
    with pytest.raises(Unavailable, match="told as it is"):
        await run_blocking(fail)


async def test_a_cancel_wakes_a_thread_that_reads(census: None) -> None:
    silent, other = socket.socketpair()
    with silent, other, trio.CancelScope() as scope:

        def read() -> bytes:
            register_socket(silent)
            trio.from_thread.run_sync(scope.cancel)
            return_value = silent.recv(1)
            checkpoint()
            return return_value

        await run_blocking(read)
    assert scope.cancelled_caught


async def test_a_failure_after_a_cancel_is_the_cancel() -> None:
    with trio.CancelScope() as scope:

        def fail() -> None:
            trio.from_thread.run_sync(scope.cancel)
            raise Unavailable("the socket was shut down")

        await run_blocking(fail)
    assert scope.cancelled_caught


async def test_a_result_is_not_lost_to_a_cancel() -> None:
    """It may own a lock, which nobody else would ever give back."""
    kept = ""
    with trio.CancelScope() as scope:

        def work() -> str:
            trio.from_thread.run_sync(scope.cancel)
            return "owns a lock"

        kept = await run_blocking(work)
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert kept == "owns a lock"


async def test_a_socket_is_left_alone_once_the_work_is_done(census: None) -> None:
    """A connection that went back to its pool belongs to the next request."""
    one, other = socket.socketpair()
    with one, other:
        await run_blocking(lambda: register_socket(one))
        other.send(b"x")
        assert one.recv(1) == b"x"
        one.send(b"y")
        assert other.recv(1) == b"y"


async def test_the_limiter_counts_threads() -> None:
    limiter = trio.CapacityLimiter(1)
    assert await run_blocking(lambda: limiter.borrowed_tokens, limiter) == 1
    assert limiter.borrowed_tokens == 0


def test_blocking_code_works_in_plain_threads() -> None:
    register_socket(None)
    checkpoint()
