"""When a long-running node collects, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from support.images import tiny_layout

from snapcore.config import NodeConfig
from snapcore.errors import InvalidArgument, NotFound, Unavailable
from snapcore.gc import Report, Schedule, Scheduler
from snapcore.node import Node, UnpackChoice
from snapcore.oci import Digest

SCHEDULE: Final = Schedule(
    deletions=2, mutations=5, period=100.0, startup=1.0, delay=2.0, pause=0.5, backoff=10.0
)


class Collections:
    """Remembers when collections began; each takes `seconds`, and the first `failing` fail."""

    def __init__(self, seconds: float = 0.0, failing: int = 0) -> None:
        self.seconds: Final = seconds
        self.failing = failing
        self.begun: Final[list[float]] = []

    async def __call__(self) -> Report:
        self.begun.append(trio.current_time() - self._start)
        await trio.sleep(self.seconds)
        if self.failing:
            self.failing -= 1
            raise Unavailable("busy")
        return Report()

    _start = 0.0

    def run(
        self,
        until: float,
        *events: tuple[float, Callable[[Scheduler], None]],
        schedule: Schedule = SCHEDULE,
    ) -> list[float]:
        """Run a scheduler for so long, with events at their times; return when it collected."""

        async def main() -> None:
            self._start = trio.current_time()
            scheduler = Scheduler(self, schedule)
            with trio.move_on_after(until):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(scheduler.run)
                    for when, event in events:
                        await trio.sleep_until(self._start + when)
                        event(scheduler)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return [round(moment, 2) for moment in self.begun]


def test_nothing_happens_before_the_period_is_over() -> None:
    assert Collections().run(250) == [101, 201]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(10, lambda s: s.deleted())], []),
        ([(10, lambda s: s.deleted(2))], [12]),
        ([(10, lambda s: s.deleted()), (20, lambda s: s.deleted())], [22]),
        ([(10, lambda s: s.changed(4))], []),
        ([(10, lambda s: s.changed(5))], [12]),
        # What comes within the delay is part of the same collection.
        ([(10, lambda s: s.deleted(2)), (11, lambda s: s.deleted(2))], [12]),
        ([(10, lambda s: s.deleted(2)), (13, lambda s: s.deleted(2))], [12, 15]),
        # Before it has begun.
        ([(0, lambda s: s.deleted(2))], [3]),
    ],
)
def test_deletions_and_changes_are_reasons(
    events: list[tuple[float, Callable[[Scheduler], None]]], expected: list[float]
) -> None:
    assert Collections().run(90, *events) == expected


def test_no_limit_means_no_reason() -> None:
    schedule = replace(SCHEDULE, deletions=0, mutations=0)
    reasons = (10, lambda s: s.deleted(99)), (11, lambda s: s.changed(99))
    assert Collections().run(90, *reasons, schedule=schedule) == []


def test_collections_take_no_more_than_their_share_of_time() -> None:
    busy = [(float(second), lambda s: s.deleted(2)) for second in range(2, 90)]
    # Ten seconds of collecting, then ten of rest, then the delay.
    assert Collections(seconds=10).run(90, *busy) == [4, 26, 48, 70]


def test_failures_are_tried_again_later_and_later() -> None:
    collections = Collections(failing=5)
    reason = (10.0, lambda s: s.deleted(2))
    assert collections.run(500, reason) == [12, 24, 46, 88, 170, 272, 372, 472]


def test_what_comes_during_a_collection_is_collected_by_the_next() -> None:
    events = [(10.0, lambda s: s.deleted(2)), (15.0, lambda s: s.deleted(2))]
    assert Collections(seconds=10).run(90, *events) == [12, 34]


@pytest.mark.parametrize(
    "wrong", [{"pause": 0.0}, {"pause": 1.1}, {"deletions": -1}, {"period": 0.0}, {"backoff": 0.0}]
)
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Schedule(**wrong)


@contextmanager
def a_node(tmp_path: Path) -> Iterator[Node]:
    tiny_layout(tmp_path / "layout")
    config = replace(NodeConfig.at(str(tmp_path / "root")), snapshotters=("native",))
    with Node.open(config) as node:
        yield node


@pytest.mark.needs_root
def test_a_node_collects_by_itself(tmp_path: Path, census: None) -> None:
    async def main(node: Node) -> None:
        done = await node.import_(str(tmp_path / "layout"), choice=UnpackChoice())
        schedule = Schedule(startup=0.0, delay=0.0, pause=1.0)
        async with node.garbage.collecting(schedule) as scheduler:
            node.images.remove(done[0].reference)
            scheduler.deleted()
            with trio.fail_after(30):
                while scheduler.last is None:
                    await trio.sleep(0.01)
        assert len(scheduler.last.removed) > 3
        assert list(node.content.walk()) == []

    with a_node(tmp_path) as node:
        trio.run(main, node)


@pytest.mark.needs_root
@pytest.mark.parametrize("thread", [False, True])
def test_the_verbs_of_a_node_are_heard_of(tmp_path: Path, thread: bool, census: None) -> None:
    async def do(work: Callable[[], object]) -> None:
        await trio.to_thread.run_sync(work) if thread else work()

    async def main(node: Node) -> None:
        target = tmp_path / "mnt"
        target.mkdir()
        (done,) = await node.import_(str(tmp_path / "layout"), choice=UnpackChoice())
        name = done.reference
        heard: list[tuple[int, int]] = []
        schedule = Schedule(startup=0.0, delay=0.0, pause=1.0, mutations=0, period=9999.0)
        async with node.garbage.collecting(schedule) as scheduler:

            def steps() -> Iterator[tuple[str, Callable[[], object], tuple[int, int]]]:
                yield "tag", lambda: node.tag(name, "localhost/other:1"), (0, 1)
                yield "mount", lambda: node.mount(name, str(target)), (0, 1)
                yield "unmount", lambda: node.unmount(str(target)), (1, 0)
                lease = node.leases.create("mine")
                yield "lease", lambda: node.leases.delete(lease.id), (1, 0)
                yield "rm", lambda: node.images.remove("localhost/other:1"), (1, 0)

            with node.garbage.activity.heard_by(lambda *counts: heard.append(counts)):
                for what, work, expected in steps():
                    heard.clear()
                    await do(work)
                    assert heard == [expected], what
                heard.clear()
                await node.import_(str(tmp_path / "layout"), choice=UnpackChoice())
                assert heard == [(0, 1)]
                heard.clear()
                with pytest.raises(NotFound):
                    node.mount(name, str(tmp_path / "missing"))
                assert heard == [(1, 0)]
            await trio.testing.wait_all_tasks_blocked(0.01)
            before = scheduler.last
            await do(lambda: node.images.remove(name))
            with trio.fail_after(30):
                while scheduler.last is before or list(node.content.walk()):
                    await trio.sleep(0.01)
        assert list(node.snapshotter("native").walk()) == []

    with a_node(tmp_path) as node:
        trio.run(main, node)


def test_a_name_that_means_something_else_now_is_a_deletion(tmp_path: Path) -> None:
    with a_node(tmp_path) as node:
        choice = UnpackChoice(unpack=False)
        (done,) = trio.run(lambda: node.import_(str(tmp_path / "layout"), choice=choice))
        heard: list[tuple[int, int]] = []
        with node.garbage.activity.heard_by(lambda *counts: heard.append(counts)):
            node.images.put(done.reference, done.descriptor)
            assert heard == []
            other = replace(done.descriptor, digest=Digest.of(b"other"))
            node.images.put(done.reference, other)
            assert heard == [(1, 0)]
