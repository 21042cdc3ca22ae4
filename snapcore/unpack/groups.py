"""From trio's exception groups to the one error that a caller can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snapcore.errors import SnapcoreError


@contextmanager
def single_error() -> Iterator[None]:
    """Turn a group raised inside the block into its most telling error.

    Nurseries wrap what their tasks raise. Interrupts and cancellation win; then the first of
    our own errors; then whatever is first. The group stays visible as the cause.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


def most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of a group that its caller should see."""
    import trio

    leaves = list(_leaves(group))
    for wanted in (KeyboardInterrupt, trio.Cancelled, SnapcoreError):
        for leaf in leaves:
            if isinstance(leaf, wanted):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
