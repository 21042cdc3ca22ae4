"""Snapshotter: the typed face of an opened snapshotter, and the only caller of its hooks.

Synchronous and safe for any number of threads; async callers go through a worker thread. What
plugins must not be trusted with is checked here: keys, labels, the types of answers, calls
after close, and commits after a sync that failed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

from snapcore import labels as label_rules
from snapcore.errors import (
    ContractError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from snapcore.filters import compile_filters
from snapcore.snapshots.hookspecs import Checkpoint, SnapshotterSpec, no_checkpoint
from snapcore.snapshots.keys import check_key
from snapcore.snapshots.records import WALK_FIELDS
from snapcore.snapshots.types import (
    Capability,
    Durability,
    FlushReport,
    Info,
    Labels,
    LayerTarget,
    Mounts,
    Options,
    Page,
    Probe,
    Reclaimed,
    SnapshotStatus,
    State,
    Usage,
)
from snapcore.snapshots.wrappers import HookTiming, Timing

NO_LABELS: Final[Labels] = MappingProxyType({})
_PAGE: Final = 500
_COMMIT_TRIES: Final = 10

_T = TypeVar("_T")


class Snapshotter:
    """An opened snapshotter; `open_snapshotter` makes it.

    `SnapshotterSpec` states what each method does and raises. Beyond that any method raises
    ContractError where the plugin breaks the contract, and FailedPrecondition after `close`.

    Attributes:
        name: name of the plugin.
        root: its state root.
        probe: what it said of itself on this host.
        options: what it was opened with, defaults filled in.
        durability: when commits are put on disk.
    """

    __slots__ = (
        "_guard",
        "_hooks",
        "_lost",
        "_open",
        "_timing",
        "_unflushed",
        "durability",
        "name",
        "options",
        "probe",
        "root",
    )

    def __init__(
        self,
        name: str,
        root: str,
        probe: Probe,
        options: Options,
        hooks: SnapshotterSpec,
        timing: Timing,
        durability: Durability,
    ) -> None:
        self.name: Final = name
        self.root: Final = root
        self.probe: Final = probe
        self.options: Final = options
        self._hooks = hooks
        self._timing = timing
        self._guard = threading.Lock()
        self._open = True
        self._lost: DataLoss | None = None
        self.durability: Final = durability
        self._unflushed = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do here beyond the minimum."""
        return self.probe.capabilities

    @property
    def unflushed(self) -> bool:
        """Whether something was committed here that is not durable yet, and shall be."""
        return self._unflushed and self.durability is not Durability.NONE

    def timings(self) -> Mapping[str, HookTiming]:
        """Return how long calls took so far, by hook."""
        return self._timing.timings()

    def stat(self, key: str) -> Info:
        """Return what is known of a snapshot.

        Raises:
            NotFound: no such key or name.
        """
        return self._answer("stat", self._ready().stat(key=key), Info)

    def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change the labels of the snapshot `info.name`; see `SnapshotterSpec.update`.

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: a field path other than labels, or a malformed label.
        """
        label_rules.check(info.labels)
        if isinstance(fieldpaths, str):
            raise InvalidArgument(f"field paths are a sequence of strings, not {fieldpaths!r}")
        answer = self._ready().update(info=info, fieldpaths=tuple(fieldpaths))
        return self._answer("update", answer, Info)

    def usage(self, key: str, *, checkpoint: Checkpoint = no_checkpoint) -> Usage:
        """Return what removal would free.

        Raises:
            NotFound: no such snapshot.
        """
        return self._answer("usage", self._ready().usage(key=key, checkpoint=checkpoint), Usage)

    def mounts(self, key: str) -> Mounts:
        """Return the mounts of an Active or View snapshot.

        Raises:
            NotFound: no such key.
            FailedPrecondition: the snapshot is Committed.
        """
        return self._answer("mounts", self._ready().mounts(key=key), tuple)

    def status(self, key: str) -> SnapshotStatus:
        """Return whether the content of a snapshot's own layer is here.

        Raises:
            NotFound: no such key or name.
        """
        return self._answer("status", self._ready().status(key=key), SnapshotStatus)

    def plan(self, labels: Labels, *, checkpoint: Checkpoint = no_checkpoint) -> SnapshotStatus:
        """Return how a layer will fare that `prepare` gets these labels for; makes nothing.

        Args:
            labels: as for `prepare`.
            checkpoint: called now and then; what it raises cancels the call.
        """
        found = self._ready().plan(labels=labels, checkpoint=checkpoint)
        return self._answer("plan", found, SnapshotStatus)

    def prepare(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Labels = NO_LABELS,
        passing: bool = False,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> Mounts:
        """Create an Active snapshot and return its mounts.

        Args:
            key: names it.
            parent: a committed snapshot, which is put on disk first; "" for none.
            labels: of the new snapshot.
            passing: it will not outlive its parent, which need not be on disk.
            checkpoint: called now and then; what it raises ends the work.

        Raises:
            InvalidArgument: the key or a label is malformed; or the parent is not Committed.
            NotFound: no such parent.
            DataLoss: the parent is broken.
            AlreadyExists: the key is taken, or the backend has supplied the layer by itself.
        """
        check_key(key)
        label_rules.check(labels)
        hooks = self._ready()
        if parent and not passing and self.durability is not Durability.NONE:
            # Where there is no such parent, it is the backend that says so.
            with suppress(NotFound):
                if self.stat(parent).state is State.PENDING:
                    self.flush()
        answer = hooks.prepare(key=key, parent=parent, labels=dict(labels), checkpoint=checkpoint)
        return self._answer("prepare", answer, tuple)

    def view(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Labels = NO_LABELS,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> Mounts:
        """Create a View and return its mounts, all read-only.

        Raises:
            InvalidArgument, NotFound, DataLoss, AlreadyExists: as `prepare`.
        """
        check_key(key)
        label_rules.check(labels)
        answer = self._ready().view(
            key=key, parent=parent, labels=dict(labels), checkpoint=checkpoint
        )
        return self._answer("view", answer, tuple)

    def target(self, key: str) -> LayerTarget:
        """Return where a layer is applied for an Active snapshot.

        Raises:
            NotFound: no such key.
            FailedPrecondition: the snapshot is not Active, or was prepared with id maps.
        """
        return self._answer("target", self._ready().target(key=key), LayerTarget)

    def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Labels = NO_LABELS,
        parent: str = "",
        checkpoint: Checkpoint = no_checkpoint,
    ) -> Info:
        """Turn the Active snapshot `key` into the Committed one `name`.

        Raises:
            InvalidArgument: the name or a label is malformed; or there is another parent.
            AlreadyExists: the name is taken.
            NotFound: no such key; or, rebasing, no such parent.
            FailedPrecondition: the key is not Active, or was prepared with id maps; or the new
                parent is not Committed.
            DataLoss: an earlier flush failed; or putting it on disk did.
        """
        check_key(name, "name")
        label_rules.check(labels)
        self._ready()
        self._check_not_lost()
        info = self._commit(name, key, labels, parent, checkpoint)
        self._unflushed = True
        if self._must_flush(info):
            self.flush()
            return replace(info, state=State.DURABLE)
        return info

    def _commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        hooks, tries_left = self._ready(), _COMMIT_TRIES
        while True:
            tries_left -= 1
            try:
                answer = hooks.commit(
                    name=name, key=key, labels=dict(labels), parent=parent, checkpoint=checkpoint
                )
                return self._answer("commit", answer, Info)
            except NotFound:
                # Backends check, measure and record: in between, others may have committed the
                # snapshot and made a new one of that key. Then "not found" was true at no moment.
                if not tries_left or not self._all_there(key, parent):
                    raise

    def _all_there(self, key: str, parent: str) -> bool:
        try:
            for name in filter(None, (key, parent)):
                self.stat(name)
        except NotFound:
            return False
        return True

    def remove(self, key: str, *, checkpoint: Checkpoint = no_checkpoint) -> Info:
        """Remove a snapshot of any kind and return what it was.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it has children.
        """
        return self._answer("remove", self._ready().remove(key=key, checkpoint=checkpoint), Info)

    def walk(self, filters: Sequence[str] = (), *, page: int = _PAGE) -> Iterator[Info]:
        """Yield the snapshots that pass the filters, sorted by the bytes of their names.

        Args:
            filters: OR-ed; none lets all pass.
            page: most infos that the backend is asked for at a time.

        Raises:
            InvalidArgument: a filter does not parse.
        """
        if isinstance(filters, str):
            raise InvalidArgument(f"filters are a sequence of strings, not {filters!r}")
        # Here too, so that every backend refuses the same, and before the first answer.
        compile_filters(filters, WALK_FIELDS)
        return self._pages(tuple(filters), page)

    def mark_broken(self, name: str) -> Info:
        """Take a committed snapshot out of use, so that it can be rebuilt in its place.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is not Committed, or what stands on it may be mounted.
            Unimplemented: the backend cannot rebuild snapshots in their place.
        """
        return self._answer("mark_broken", self._ready().mark_broken(name=name), Info)

    def flush(self) -> FlushReport:
        """Put everything acknowledged on disk before returning.

        Raises:
            DataLoss: the sync failed, now or earlier: it is not tried again, since the next
                one would report success without having written what this one lost.
        """
        hooks = self._ready()
        self._check_not_lost()
        self._unflushed = False
        try:
            answer = hooks.flush()
        except DataLoss as error:
            self._lost = error
            raise
        except BaseException:
            self._unflushed = True
            raise
        return self._answer("flush", answer, FlushReport)

    def make_durable(self, name: str) -> None:
        """Have a committed snapshot and all below it on disk, unless durability is `none`.

        Nothing is synced where they are already.

        Raises:
            NotFound: no such snapshot.
            DataLoss: the sync failed, now or earlier; or one of them is broken.
        """
        if self.durability is Durability.NONE:
            return
        if State.PENDING in self._states(name):
            self.flush()
        # Another process, whose sync failed meanwhile, has condemned what it could not write.
        if State.BROKEN in self._states(name):
            raise DataLoss(f"snapshot {name!r} of {self.name!r} is broken; pull its image again")

    def cleanup(self, *, checkpoint: Checkpoint = no_checkpoint) -> Reclaimed:
        """Finish removals and delete what crashed owners left behind."""
        return self._answer("cleanup", self._ready().cleanup(checkpoint=checkpoint), Reclaimed)

    def close(self) -> bool:
        """Release what it holds; True if it was open. Snapshots and mounts stay."""
        with self._guard:
            was_open, self._open = self._open, False
        if was_open:
            self._answer("close", self._hooks.close(), bool)
        return was_open

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshotter {self.name!r} at {self.root!r}>"

    def _must_flush(self, info: Info) -> bool:
        if self.durability is Durability.FLUSH:
            # What does not keep track of it cannot be asked later.
            return info.state is not State.PENDING
        return self.durability is Durability.STRICT

    def _states(self, name: str) -> set[State]:
        found: set[State] = set()
        while name:
            info = self.stat(name)
            found.add(info.state)
            name = info.parent
        return found

    def _pages(self, filters: tuple[str, ...], page: int) -> Iterator[Info]:
        after = ""
        while True:
            answer = self._ready().walk(filters=filters, after=after, limit=page)
            infos = self._answer("walk", answer, Page).infos
            if not infos:
                return
            for info in infos:
                if _sort_key(info.name) <= _sort_key(after):
                    raise ContractError(
                        f"snapshotter {self.name!r} broke the contract: walk gave {info.name!r}"
                        f" after {after!r}"
                    )
                after = info.name
                yield info

    def _ready(self) -> SnapshotterSpec:
        if not self._open:
            raise FailedPrecondition(f"snapshotter {self.name!r} at {self.root!r} is closed")
        return self._hooks

    def _check_not_lost(self) -> None:
        if self._lost is not None:
            raise DataLoss(
                f"snapshotter {self.name!r}: an earlier flush failed ({self._lost}); nothing is"
                " committed until the root is opened again"
            ) from self._lost

    def _answer(self, hook: str, answer: object, kind: type[_T]) -> _T:
        if isinstance(answer, kind):
            return answer
        what = (
            "nothing" if answer is None else f"{type(answer).__name__} instead of {kind.__name__}"
        )
        raise ContractError(f"snapshotter {self.name!r} broke the contract: {hook} returned {what}")


def _sort_key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
