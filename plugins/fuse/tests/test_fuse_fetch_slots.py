"""Whose turn it is at a registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from snapcore_fuse.fetch import Priority, Slots
from snapcore_fuse.fetch.slots import Ticket


def run(work: Callable[[], Awaitable[None]]) -> float:
    async def timed() -> float:
        started = trio.current_time()
        await work()
        return trio.current_time() - started

    return trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


async def use(slots: Slots, priority: Priority, seconds: float, log: list[Priority]) -> None:
    ticket = Ticket(priority)
    await slots.acquire(ticket)
    log.append(priority)
    await trio.sleep(seconds)
    slots.release(ticket)


def test_the_most_urgent_is_next() -> None:
    log: list[Priority] = []

    async def main() -> None:
        slots = Slots(1, quiet=0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, slots, Priority.PREFETCH, 1, log)
            await trio.sleep(0.5)
            for priority in (Priority.BACKGROUND, Priority.PREFETCH, Priority.BLOCKED):
                nursery.start_soon(use, slots, priority, 1, log)
                await trio.sleep(0.01)

    run(main)
    assert log == [
        Priority.PREFETCH, Priority.BLOCKED, Priority.PREFETCH, Priority.BACKGROUND,
    ]  # fmt: skip


async def count(slots: Slots, done: list[int], seconds: float = 1.0) -> None:
    for number in range(3):

        async def work(number: int = number) -> int:
            await trio.sleep(seconds)
            return number

        done.append(await slots.run_in_background(work))


def test_background_work_stops_for_a_blocked_read_and_begins_anew() -> None:
    async def main() -> None:
        slots, done, log = Slots(4, quiet=2), list[int](), list[Priority]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count, slots, done)
            await trio.sleep(1.5)
            assert done == [0]
            started = trio.current_time()
            await use(slots, Priority.BLOCKED, 1, log)
            assert trio.current_time() - started == 1
            # Not in the two seconds after it either.
            await trio.sleep(2.9)
            assert done == [0]
            await trio.sleep(1.2)
            assert done == [0, 1]

    run(main)


def test_a_prefetch_that_somebody_waits_for_stops_background_work_too() -> None:
    async def main() -> None:
        slots, done, ticket = Slots(4), list[int](), Ticket(Priority.PREFETCH)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count, slots, done)
            await slots.acquire(ticket)
            await trio.sleep(0.5)
            slots.hurry(ticket, Priority.BLOCKED)
            await trio.sleep(5)
            assert done == []
            slots.release(ticket)
            await trio.sleep(2.1)
            assert done == [0]

    run(main)


def test_background_work_leaves_slots_to_others() -> None:
    async def main() -> None:
        slots, done = Slots(4, background=2), list[int]()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(count, slots, done)
            await trio.sleep(1.1)
            assert len(done) == 2
            started = trio.current_time()
            await use(slots, Priority.PREFETCH, 0.5, [])
            assert trio.current_time() - started == pytest.approx(0.5)

    run(main)


def test_a_place_in_the_queue_can_be_given_up() -> None:
    async def main() -> None:
        slots, log = Slots(1), list[Priority]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, slots, Priority.BLOCKED, 1, log)
            await trio.sleep(0.1)
            with trio.move_on_after(0.1):
                await use(slots, Priority.BLOCKED, 1, log)
            await use(slots, Priority.BLOCKED, 1, log)
        assert len(log) == 2

    assert run(main) == pytest.approx(2)


def test_cancelling_running_background_work_gives_its_slot_back() -> None:
    async def main() -> None:
        slots = Slots(1, background=1)
        with trio.move_on_after(0.5):
            await count(slots, [])
        await use(slots, Priority.BLOCKED, 1, [])

    assert run(main) == pytest.approx(1.5)
