"""Reading a layer's stream: what is asked for, how often, in which order; what failures cost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing
from support.lazy import PlainReader, SlowSource

from snapcore.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
    Unavailable,
)
from snapcore.oci import Digest
from snapcore_fuse.cache import ChunkCache
from snapcore_fuse.fetch import FetchOptions, LayerData, Priority, Slots
from snapcore_fuse.formats import BlobRange

LAYER = Digest.of(b"layer")
INDEX = Digest.of(b"index")
NO_AHEAD = FetchOptions(read_ahead=0, gap=300, request=8000, ride=2500, around=0)
_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def _threads_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run thread work at once: the clock would jump over whoever waits for a real thread."""

    async def inline(work: Callable[..., _T], *args: object, **_: object) -> _T:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", inline)


@dataclass
class Bench:
    layer: LayerData
    source: SlowSource
    reader: PlainReader
    slots: Slots
    nursery: trio.Nursery

    async def check(self, start: int, size: int, priority: Priority = Priority.BLOCKED) -> None:
        """Read, and see that the bytes are right."""
        data = await self.layer.read(start, size, priority)
        assert data == self.reader.stream(start, size)

    @property
    def asked(self) -> list[tuple[int, int]]:
        return [(blob.offset, blob.end) for blob in self.source.asked]


@pytest.fixture
def cache(tmp_path: Path, census: None) -> Iterator[ChunkCache]:
    with closing(ChunkCache(str(tmp_path / "cache"), 64 << 20)) as opened:
        yield opened


@asynccontextmanager
async def bench(
    cache: ChunkCache,
    reader: PlainReader | None = None,
    options: FetchOptions = NO_AHEAD,
    total: int = 4,
) -> AsyncIterator[Bench]:
    reader, source = reader or PlainReader(100), SlowSource()
    slots = Slots(total)
    async with trio.open_nursery() as nursery:
        layer = LayerData(
            LAYER, INDEX, reader, source, cache, slots=slots, nursery=nursery, options=options
        )
        yield Bench(layer, source, reader, slots, nursery)
        nursery.cancel_scope.cancel()


def run(work: Callable[[], Awaitable[None]]) -> float:
    """Run with a clock that jumps; return how long it took by that clock."""

    async def timed() -> float:
        started = trio.current_time()
        await work()
        return trio.current_time() - started

    return trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("start", "size"), [(0, 1), (999, 2), (500, 4000), (0, 100_000), (99_999, 1), (5, 0)]
)
def test_any_stretch_has_the_right_bytes(cache: ChunkCache, start: int, size: int) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            await b.check(start, size)
            await b.check(start, size)
            assert b.layer.status().served == 2 * size

    run(main)


@pytest.mark.parametrize(("start", "size"), [(-1, 1), (0, -1), (99_999, 2), (100_001, 0)])
def test_what_is_not_in_the_stream_is_refused(cache: ChunkCache, start: int, size: int) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            with pytest.raises(InvalidArgument):
                await b.layer.read(start, size)

    run(main)


def test_what_was_fetched_is_not_fetched_again(cache: ChunkCache, tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            await b.check(1000, 3000)
            await b.check(2500, 200)
            assert b.asked == [(1000, 4000)]
            status = b.layer.status()
            assert (status.hits, status.misses, status.requests) == (1, 3, 1)
            assert (status.fetched, status.wasted) == (3000, 0)
        # Nor by the next process.
        async with bench(cache) as b:
            await b.check(1000, 3000)
            assert not b.asked

    run(main)


def test_neighbours_wanted_at_the_same_time_are_one_request(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b, trio.open_nursery() as nursery:
            for number in (5, 3, 4, 7):
                nursery.start_soon(b.check, number * 1000, 1000)
            await trio.sleep(2)
            assert sorted(b.asked) == [(3000, 6000), (7000, 8000)]

    assert run(main) < 3


@pytest.mark.parametrize(("spread", "requests"), [(300, 1), (301, 3)])
def test_small_gaps_are_fetched_along(cache: ChunkCache, spread: int, requests: int) -> None:
    async def main() -> None:
        async with bench(cache, PlainReader(10, spread=spread)) as b:
            await b.check(0, 3000)
            assert len(b.asked) == requests
            assert b.layer.status().wasted == (2 * spread if requests == 1 else 0)

    run(main)


def test_requests_are_bounded(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            await b.check(0, 50_000)
            assert max(end - start for start, end in b.asked) == 8000
            assert len(b.asked) == 7
            assert sum(end - start for start, end in b.asked) == 50_000

    run(main)


def test_a_piece_of_a_queued_stretch_is_hurried_alone(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache, total=2) as b, trio.open_nursery() as nursery:
            nursery.start_soon(b.check, 0, 8000, Priority.PREFETCH)
            await trio.sleep(0.1)
            nursery.start_soon(b.check, 20_000, 20_000, Priority.PREFETCH)
            await trio.sleep(0.1)
            await b.check(33_000, 1000)
            # With the two pieces that may ride along, and without the rest of its stretch.
            assert b.asked[1] == (33_000, 35_000)
            await trio.sleep(9)
            assert sum(end - start for start, end in b.asked) == 28_000

    run(main)


def test_a_piece_on_its_way_is_shared(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b, trio.open_nursery() as nursery:
            nursery.start_soon(b.check, 0, 2000)
            await trio.sleep(0.5)
            for _ in range(50):
                nursery.start_soon(b.check, 1200, 300)
            await trio.sleep(1)
            assert b.asked == [(0, 2000)]
            assert b.reader.decoded == {0: 1, 1: 1}

    run(main)


def test_who_gives_up_does_not_end_it_for_the_others(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b, trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):
                nursery.start_soon(b.check, 0, 1000)
                await b.check(0, 1000)
        async with bench(cache) as b:
            with trio.move_on_after(0.5):
                await b.check(5000, 1000)
            await trio.sleep(1)
            await b.check(5000, 1000)
            assert (len(b.asked), b.source.cancelled) == (1, 0)

    run(main)


def test_requests_at_the_same_time_are_limited(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b, trio.open_nursery() as nursery:
            for number in range(0, 40, 2):
                nursery.start_soon(b.check, number * 1000, 1000)
            await trio.sleep(9)
            assert (len(b.asked), b.source.most) == (20, 4)

    run(main)


def test_a_blocked_read_goes_first(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache, total=2) as b, trio.open_nursery() as nursery:
            for number in range(0, 20, 2):
                nursery.start_soon(b.check, number * 1000, 1000, Priority.PREFETCH)
            await trio.sleep(0.1)
            started = trio.current_time()
            await b.check(50_000, 1000)
            # One slot is never taken by prefetches.
            assert trio.current_time() - started == pytest.approx(1)
            assert b.source.priorities[:2] == [Priority.PREFETCH, Priority.BLOCKED]

    run(main)


def test_a_queued_prefetch_that_somebody_needs_is_hurried(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache, total=2) as b, trio.open_nursery() as nursery:
            for number in range(0, 20, 2):
                nursery.start_soon(b.check, number * 1000, 1000, Priority.PREFETCH)
                await trio.sleep(0.01)
            started = trio.current_time()
            await b.check(18_000, 1000)
            assert trio.current_time() - started == pytest.approx(1)
            await trio.sleep(20)
            assert len(b.asked) == 10

    run(main)


def test_who_waits_does_not_wait_for_a_long_ride(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache, total=2) as b, trio.open_nursery() as nursery:
            nursery.start_soon(b.check, 90_000, 1000, Priority.PREFETCH)
            await trio.sleep(0.1)
            nursery.start_soon(b.check, 11_000, 7000, Priority.PREFETCH)
            await trio.sleep(0.1)
            await b.check(10_000, 1000)
            # Two pieces rode along; the rest went by itself.
            assert b.asked[1] == (10_000, 12_000)

    run(main)


def ahead(read_ahead: int = 8 << 20) -> FetchOptions:
    return FetchOptions(around=0, read_ahead=read_ahead)


def test_reading_in_order_fetches_ahead_more_and_more(cache: ChunkCache) -> None:
    async def main() -> None:
        reader = PlainReader(600, 16 << 10)
        async with bench(cache, reader, ahead(1 << 20)) as b:
            farthest = []
            for start in range(0, 3 << 20, 128 << 10):
                await b.layer.read(start, 128 << 10)
                await trio.sleep(5)
                farthest.append(max(end for _, end in b.asked) - start - (128 << 10))
            assert farthest[0] == 0
            assert farthest[1] == 256 << 10
            assert farthest[2] == 512 << 10
            assert max(farthest) == 1 << 20
            assert min(farthest[4:]) >= 512 << 10
            # Nothing twice.
            assert b.layer.status().fetched == max(end for _, end in b.asked)
            hits = b.layer.status().hits
            assert hits > b.layer.status().misses

    run(main)


def test_reading_here_and_there_fetches_nothing_ahead(cache: ChunkCache) -> None:
    async def main() -> None:
        reader = PlainReader(600, 16 << 10)
        async with bench(cache, reader, ahead()) as b:
            for number in (500, 20, 300, 90, 400, 7, 250):
                await b.check(number * (16 << 10), 16 << 10)
            await trio.sleep(5)
            assert b.layer.status().fetched == 7 * (16 << 10)

    run(main)


def test_a_seek_starts_anew(cache: ChunkCache) -> None:
    async def main() -> None:
        reader = PlainReader(1200, 16 << 10)
        async with bench(cache, reader, ahead()) as b:
            for start in range(0, 1 << 20, 128 << 10):
                await b.layer.read(start, 128 << 10)
                await trio.sleep(9)
            before = b.layer.status().fetched
            await b.layer.read(15 << 20, 128 << 10)
            await trio.sleep(9)
            assert b.layer.status().fetched == before + (128 << 10)

    run(main)


def test_the_end_of_the_stream_ends_the_reading_ahead(cache: ChunkCache) -> None:
    async def main() -> None:
        reader = PlainReader(40, 16 << 10)
        async with bench(cache, reader, ahead()) as b:
            for start in range(0, reader.size, 64 << 10):
                await b.check(start, 64 << 10)
            await trio.sleep(5)
            assert b.layer.status().fetched == reader.size

    run(main)


def test_what_an_index_wants_at_start_is_fetched(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            await b.layer.prefetch(20_500)
            assert sum(end - start for start, end in b.asked) == 21_000
            await b.check(0, 21_000)
            assert b.layer.status().misses == 0
            b.source.failures[:] = [Unavailable("down")] * 9
            await b.layer.prefetch(30_000)
            assert b.layer.status().last_error == "down"

    run(main)


@pytest.mark.parametrize(
    "failure", [Unavailable("down"), NotFound("gone"), PermissionDenied("no"), DataLoss("other")]
)
def test_a_failure_reaches_all_who_wait_and_is_not_kept(
    cache: ChunkCache, failure: SnapcoreError
) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            b.source.failures[:] = [failure]
            with pytest.raises(type(failure), match=str(failure)):
                await b.check(0, 1000)
            assert b.layer.status().last_error == str(failure)
            await b.check(0, 1000)
            assert b.layer.status().last_error == ""

    run(main)


def test_who_joins_a_fetch_that_fails_has_a_try_of_his_own(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b, trio.open_nursery() as nursery:
            b.source.failures[:] = [Unavailable("down")]

            async def prefetch() -> None:
                with contextlib.suppress(Unavailable):
                    await b.layer.read(0, 1000, Priority.PREFETCH)

            nursery.start_soon(prefetch)
            await trio.sleep(0.5)
            await b.check(0, 1000)
            assert len(b.asked) == 2

    run(main)


def test_wrong_bytes_are_asked_for_once_more(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            b.source.wrong = 1
            await b.check(0, 1000)
            assert (len(b.asked), b.source.distrusted) == (2, 1)
            assert b.layer.status().wasted == 1000

    run(main)


def test_bytes_that_stay_wrong_are_lost_and_never_served(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            b.source.wrong = 2
            with pytest.raises(DataLoss, match="piece 0 is wrong"):
                await b.check(0, 1000)
            assert len(b.asked) == 2
            await b.check(0, 1000)

    run(main)


def test_a_reader_that_breaks_costs_one_read(
    cache: ChunkCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with bench(cache) as b:

            def broken(*_: object) -> bytes:
                raise ZeroDivisionError("mistake")

            with monkeypatch.context() as patch:
                patch.setattr(b.reader, "decode", broken)
                with pytest.raises(DataLoss, match="mistake"):
                    await b.check(0, 1000)
            await b.check(0, 1000)

    run(main)


def test_a_read_ends_with_its_deadline_and_the_fetch_goes_on(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            b.source.seconds = 40
            started = trio.current_time()
            with pytest.raises(Unavailable, match="within 30 s"):
                await b.check(0, 1000)
            assert trio.current_time() - started == pytest.approx(30)
            await b.check(0, 1000)
            assert trio.current_time() - started == pytest.approx(40)
            assert len(b.asked) == 1

    run(main)


def test_the_end_of_the_nursery_wakes_who_waits_elsewhere(cache: ChunkCache) -> None:
    async def main() -> None:
        async with trio.open_nursery() as outer, bench(cache) as b:

            async def wait() -> None:
                with pytest.raises(Unavailable, match="was stopped"):
                    await b.layer.read(0, 1000)

            outer.start_soon(wait)
            await trio.sleep(0.5)

    assert run(main) < 1


def test_a_whole_blob_here_is_read_instead(cache: ChunkCache) -> None:
    async def main() -> None:
        async with bench(cache) as b:
            other = SlowSource(0)
            b.layer.use(other)
            await b.check(0, 1000)
            assert (b.asked, other.asked) == ([], [BlobRange(0, 1000)])
            assert b.layer.status().complete

    run(main)


def test_what_lies_behind_a_piece_comes_along(cache: ChunkCache) -> None:
    async def main() -> None:
        options = replace(NO_AHEAD, around=3000, ride=8000)
        async with bench(cache, options=options) as b:
            await b.check(10_500, 1)
            assert b.asked == [(10_000, 14_000)]
            await b.check(13_500, 1)
            assert len(b.asked) == 1
            # The last pieces have nothing behind them.
            await b.check(99_500, 1)
            assert b.asked[1:] == [(99_000, 100_000)]
            assert b.layer.status().wasted == 0

    assert run(main) == 2.0
