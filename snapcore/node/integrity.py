"""Whether the files of committed snapshots are what they were, and recording what they are.

A snapshot's own layer is looked at through a temporary View, so this works for every backend:
where the layer lies in one directory, that is read; else what the View shows.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

import trio

from snapcore.archive import Difference, differences, tree_listing
from snapcore.config import NodeConfig
from snapcore.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
)
from snapcore.mount import temporary_mount
from snapcore.node.inventories import Inventories, Unkept
from snapcore.snapshots import (
    Checkpoint,
    Durability,
    Info,
    Kind,
    Mounts,
    Snapshotter,
    State,
    layer_from_view,
)
from snapcore.unpack import Event, Events, LayerDone, Workplace
from snapcore.unpack.leftovers import EXTRACT_PREFIX, reclaim

_MOST_DAMAGE: Final = 1000
_LEAST_ROOM: Final = 4 * 1024 * 1024
_LINES_PER_CHECKPOINT: Final = 100
_log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What is known of a snapshot's files."""

    INTACT = "intact"
    """They are as they were recorded."""
    DAMAGED = "damaged"
    BROKEN = "broken"
    """A power cut, a failed sync or an earlier verification has taken it, or one below it, out
    of use."""
    LAZY = "lazy"
    """They are fetched when they are read, and each piece is verified then."""
    UNRECORDED = "unrecorded"
    """Nothing was recorded when it was made."""
    UNREADABLE = "unreadable"
    """They could not be looked at."""
    REPAIRED = "repaired"
    """It was damaged or broken, and has been made again from its layer."""


@dataclass(frozen=True, slots=True)
class SnapshotCheck:
    """What verifying one snapshot has found.

    Attributes:
        snapshotter: who has it.
        name: its name.
        verdict: see `Verdict`.
        files: names in its own layer, 0 if they were not read.
        damage: what differs, the first thousand.
        more: how many more differences there are.
        reason: what else there is to say, "" for nothing.
        trouble: why it could not be repaired; "" if nobody tried or it worked.
    """

    snapshotter: str
    name: str
    verdict: Verdict
    files: int = 0
    damage: tuple[Difference, ...] = ()
    more: int = 0
    reason: str = ""
    trouble: str = ""


class Integrity:
    """Records what snapshots consist of, and compares.

    Args:
        config: where the root is, and what it promises.
        place: None for a root that is read-only for this process.

    Attributes:
        inventories: what was recorded.
    """

    def __init__(self, config: NodeConfig, place: Workplace | None) -> None:
        self.inventories: Final = Inventories(os.path.join(config.root, "inventories"))
        self._root: Final = config.root
        self._durability: Final = config.durability
        self._place: Final = place

    def record(self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint) -> None:
        """Record what a committed snapshot consists of now; blocks.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is not committed, or lazy.
            ResourceExhausted: the disk is as good as full.
            DataLoss: it, or one below it, is broken.
            SnapcoreError: reading or writing failed.
        """
        info = _committed(snapshotter, name)
        if snapshotter.status(name).lazy:
            raise FailedPrecondition(f"snapshot {name!r} is lazy: its files are verified when read")
        self._check_room(name)
        with (
            self._layer(snapshotter, name, checkpoint) as directory,
            closing(tree_listing(directory, marks=True)) as listing,
        ):
            lines = _checked(listing, checkpoint)
            self.inventories.write(snapshotter.name, info, lines, self._writable().owner)

    @asynccontextmanager
    async def recording(
        self, snapshotters: Sequence[Snapshotter], events: Events
    ) -> AsyncIterator[Events]:
        """Record, beside the work of the block, every layer that it unpacks.

        The block's end waits until all is recorded. What cannot be recorded is only logged:
        the snapshots are as good without.

        Args:
            snapshotters: who get layers.
            events: told what the block's work tells.

        Yields:
            What that work shall tell events to.
        """
        if self._durability is Durability.NONE:
            # Who does without the disk's promise has no use for the proof either.
            yield events
            return
        known = {snapshotter.name: snapshotter for snapshotter in snapshotters}
        one = trio.CapacityLimiter(1)

        async def record(snapshotter: Snapshotter, name: str) -> None:
            try:
                await trio.to_thread.run_sync(
                    self.record, snapshotter, name, trio.from_thread.check_cancelled, limiter=one
                )
            except SnapcoreError as error:
                _log.warning("no inventory of snapshot %r is kept: %s", name, error)

        async with trio.open_nursery() as nursery:

            def listen(event: Event) -> None:
                if isinstance(event, LayerDone) and event.how == "applied":
                    nursery.start_soon(record, known[event.snapshotter], event.chain_id)
                events(event)

            yield listen

    def verify(self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint) -> SnapshotCheck:
        """Compare a committed snapshot's own layer with what was recorded; blocks.

        Memory does not depend on its size, but for the names of hard links.

        Args:
            snapshotter: who has it.
            name: its name.
            checkpoint: called now and then; what it raises ends the work.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is not committed.
            PermissionDenied: the root is read-only for this process.
        """
        info = _committed(snapshotter, name)
        if info.state is State.BROKEN:
            return SnapshotCheck(snapshotter.name, name, Verdict.BROKEN)
        if snapshotter.status(name).lazy:
            return SnapshotCheck(snapshotter.name, name, Verdict.LAZY)
        try:
            with (
                self.inventories.opened(snapshotter.name, info) as recorded,
                self._layer(snapshotter, name, checkpoint) as directory,
            ):
                return _compare(snapshotter.name, name, recorded, directory, checkpoint)
        except Unkept as lack:
            return SnapshotCheck(snapshotter.name, name, Verdict.UNRECORDED, reason=str(lack))
        except DataLoss as error:
            return SnapshotCheck(snapshotter.name, name, Verdict.BROKEN, reason=str(error))
        except NotFound as error:
            # Unless it was removed meanwhile, it is its directory that is not there.
            _committed(snapshotter, name)
            reason = f"its directory, or one in it, is gone: {error}"
            return SnapshotCheck(snapshotter.name, name, Verdict.DAMAGED, reason=reason)

    @contextmanager
    def view_of(
        self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint
    ) -> Iterator[Mounts]:
        """Have a View of a committed snapshot for the duration of the block.

        Yields:
            Its mounts.

        Raises:
            DataLoss: it, or one below it, is broken.
        """
        # As a layer in progress: nobody collects it, and a dead process's goes at the next open.
        key = f"{EXTRACT_PREFIX}{self._writable().owner}-{uuid.uuid4().hex}"
        mounts = snapshotter.view(key, name, checkpoint=checkpoint)
        try:
            yield mounts
        finally:
            snapshotter.remove(key)
            reclaim(snapshotter)

    @contextmanager
    def _layer(self, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint) -> Iterator[str]:
        with self.view_of(snapshotter, name, checkpoint) as mounts:
            directory = layer_from_view(mounts)
            if directory:
                yield directory
                return
            with temporary_mount(mounts, self._writable().state) as directory:
                yield directory

    def _check_room(self, name: str) -> None:
        # The View that it takes could not be removed where the records have no room.
        status = os.statvfs(self._root)
        if status.f_bavail * status.f_frsize < _LEAST_ROOM:
            raise ResourceExhausted(
                f"no space left to record snapshot {name!r}: {self._root!r} has less than"
                f" {_LEAST_ROOM} bytes"
            )

    def _writable(self) -> Workplace:
        if self._place is None:
            raise PermissionDenied(
                "looking into snapshots makes temporary ones, and the root is read-only for this"
                " process"
            )
        return self._place


def _committed(snapshotter: Snapshotter, name: str) -> Info:
    info = snapshotter.stat(name)
    if info.kind is not Kind.COMMITTED:
        raise FailedPrecondition(
            f"snapshot {name!r} is {info.kind}: only what is committed stays as it is"
        )
    return info


def _compare(
    snapshotter: str, name: str, recorded: Iterator[str], directory: str, checkpoint: Checkpoint
) -> SnapshotCheck:
    with closing(tree_listing(directory, marks=True)) as listing:
        seen = _Counted(_checked(listing, checkpoint))
        found = differences(recorded, seen)
        try:
            damage = tuple(islice(found, _MOST_DAMAGE))
            more = sum(1 for _ in found)
        except (DataLoss, FailedPrecondition, NotFound) as error:
            return SnapshotCheck(snapshotter, name, Verdict.DAMAGED, reason=str(error))
    verdict = Verdict.DAMAGED if damage else Verdict.INTACT
    return SnapshotCheck(snapshotter, name, verdict, seen.count, damage, more)


class _Counted:
    """Lines of a listing, of which the first is no file."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines: Final = lines
        self.count = -1

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line


def _checked(lines: Iterator[str], checkpoint: Checkpoint) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number % _LINES_PER_CHECKPOINT == 0:
            checkpoint()
        yield line
