"""What the verbs of a node do that a collector wants to hear of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

Listener: TypeAlias = Callable[[int, int], None]
"""Told how many things were deleted and how many changed, from whatever thread did it."""


class Activity:
    """Passes on what was deleted and changed in this process. Nobody need listen."""

    def __init__(self) -> None:
        self._listeners: Final[list[Listener]] = []

    def deleted(self, count: int = 1) -> None:
        """Say that names, leases or snapshots were deleted."""
        self._tell(count, 0)

    def changed(self, count: int = 1) -> None:
        """Say that something was made or changed."""
        self._tell(0, count)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count what the block does as one change; broken off, it leaves what nobody needs."""
        try:
            yield
        except BaseException:
            self.deleted()
            raise
        self.changed()

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Have somebody told for the duration of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _tell(self, deletions: int, changes: int) -> None:
        for listener in tuple(self._listeners):
            listener(deletions, changes)
