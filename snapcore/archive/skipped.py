"""Counting what is left out of a layer on purpose."""

from __future__ import annotations

from typing import Final

_MAX_REASONS: Final = 100
_MAX_REASON: Final = 64


class Skipped:
    """Counts by reason; no layer can make it grow for ever."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        """Count one thing left out."""
        key = reason[:_MAX_REASON]
        if key not in self._counts and len(self._counts) >= _MAX_REASONS:
            key = "other"
        self._counts[key] = self._counts.get(key, 0) + 1

    def counts(self) -> dict[str, int]:
        """Return the counts so far."""
        return dict(self._counts)
