"""What a piece of work is about to use, told before it looks, so that no collector takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from snapcore.content import ContentStore
from snapcore.oci import Digest


class Hold(Protocol):
    """Keeps things from being collected until the work is done.

    All methods block. When `content` and `snapshots` return nobody is deleting these things, and
    nobody will; only then may one look whether they are there.
    """

    def content(self, digests: Iterable[Digest]) -> None:
        """Hold blobs, there or not."""

    def snapshots(self, snapshotter: str, names: Iterable[str]) -> None:
        """Hold snapshots of one snapshotter, there or not."""

    def discard(self, store: ContentStore, digest: Digest) -> bool:
        """Let a blob go and delete it, unless something else needs it; say whether it is gone."""


class HoldNothing:
    """For roots that nobody collects."""

    def content(self, digests: Iterable[Digest]) -> None:
        """Do nothing."""

    def snapshots(self, snapshotter: str, names: Iterable[str]) -> None:
        """Do nothing."""

    def discard(self, store: ContentStore, digest: Digest) -> bool:
        """Leave it there: nobody knows who else needs it."""
        del store, digest
        return False


HOLD_NOTHING = HoldNothing()
