"""Who is taken for a sequential reader, and how far ahead is fetched for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snapcore_fuse.fetch.ahead import FILES_IN_ORDER, FIRST_WINDOW, ReadAhead

KIB = 1 << 10
MIB = 1 << 20


def stretches(ahead: ReadAhead, start: int, end: int, step: int = 64 * KIB) -> Iterator[int]:
    """Read a file in order; yield how far each read has had fetched."""
    for at in range(start, end, step):
        yield ahead.note(at, min(step, end - at), end)[1]


def test_reading_one_file_fetches_nothing_behind_it() -> None:
    ends = list(stretches(ReadAhead(8 * MIB), 0, MIB))
    assert ends[1] == 128 * KIB + FIRST_WINDOW
    assert max(ends) == MIB


@pytest.mark.parametrize("between", [0, 512, 4096])
def test_reading_files_in_their_order_fetches_those_behind(between: int) -> None:
    ahead = ReadAhead(8 * MIB)
    start, farthest = 0, []
    for _ in range(2000):
        end = start + 10 * KIB
        farthest.append(max(stretches(ahead, start, end)) - end)
        start = end + between
    assert farthest[: FILES_IN_ORDER - 1] == [0] * (FILES_IN_ORDER - 1)
    assert farthest[FILES_IN_ORDER - 1] == FILES_IN_ORDER * 10 * KIB + 3 * between
    assert 4 * MIB - 20 * KIB <= min(farthest[1000:]) <= max(farthest) <= 8 * MIB


@pytest.mark.parametrize("between", [-1, 4097, 100 * KIB])
def test_files_near_each_other_are_not_read_in_order(between: int) -> None:
    ahead = ReadAhead(8 * MIB)
    start = 0
    for _ in range(2 * FILES_IN_ORDER):
        end = start + 10 * KIB
        assert max(stretches(ahead, start, end)) == end
        start = end + between


def test_a_file_that_was_not_read_to_its_end_is_not_followed_by_another() -> None:
    ahead = ReadAhead(8 * MIB)
    for number in range(2 * FILES_IN_ORDER):
        start = number * 10 * KIB
        end = start + 10 * KIB
        assert ahead.note(start, 9 * KIB, end) == (start + 9 * KIB, start + 9 * KIB)


def test_the_kernel_may_ask_in_any_order_within_a_file() -> None:
    ahead = ReadAhead(8 * MIB)
    ahead.note(0, 64 * KIB, MIB)
    ahead.note(64 * KIB, 64 * KIB, MIB)
    assert ahead.note(192 * KIB, 64 * KIB, MIB)[1] > 256 * KIB
    # The one in between is somebody known too, and has been fetched for.
    assert ahead.note(128 * KIB, 64 * KIB, MIB) == (192 * KIB, 192 * KIB)
