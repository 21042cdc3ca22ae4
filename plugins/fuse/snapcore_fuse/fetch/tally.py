"""Counters of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from snapcore.errors import SnapcoreError
from snapcore_fuse.fetch.types import LayerStatus


@dataclass(slots=True)
class Tally:
    """See `LayerStatus`."""

    requests: int = 0
    fetched: int = 0
    served: int = 0
    wasted: int = 0
    hits: int = 0
    misses: int = 0
    last_error: str = ""
    complete: bool = False

    def came(self, size: int, used: int) -> None:
        """Note the answer to a request, and how much of it is of use."""
        self.fetched += size
        self.wasted += max(size - used, 0)
        self.last_error = ""

    def failed(self, error: SnapcoreError) -> None:
        """Note that a fetch failed."""
        self.last_error = str(error)

    def status(self) -> LayerStatus:
        """Return the counters as they are now."""
        return LayerStatus(
            self.requests,
            self.fetched,
            self.served,
            self.wasted,
            self.hits,
            self.misses,
            self.last_error,
            self.complete,
        )
