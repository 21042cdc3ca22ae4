"""The latest chunks in memory: what a cache keeps when the disk takes nothing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final


class Recent:
    """Bytes by key, the least recently used dropped first. Guarded by its user.

    Args:
        cap: most bytes.
    """

    def __init__(self, cap: int) -> None:
        self._cap: Final = cap
        self._held: Final[OrderedDict[tuple[bytes, int], bytes]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[bytes, int]) -> bytes | None:
        """Return what was kept."""
        data = self._held.get(key)
        if data is not None:
            self._held.move_to_end(key)
        return data

    def put(self, key: tuple[bytes, int], data: bytes) -> None:
        """Keep something, if it is not larger than all that may be kept."""
        self.drop(key)
        if len(data) > self._cap:
            return
        self._held[key] = data
        self._bytes += len(data)
        while self._bytes > self._cap:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= len(dropped)

    def drop(self, key: tuple[bytes, int]) -> None:
        """Forget one key."""
        self._bytes -= len(self._held.pop(key, b""))

    def forget(self, prefix: bytes) -> None:
        """Forget every key of some owners."""
        for key in [key for key in self._held if key[0].startswith(prefix)]:
            self.drop(key)
