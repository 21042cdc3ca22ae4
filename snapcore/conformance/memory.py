"""The reference: a snapshotter in memory, the contract written out as plainly as possible.

It keeps records and no files, so it has nothing to mount: it passes every check that mounts
nothing, without root, and is what other snapshotters' answers are compared with. Its mounts are
of a type that no kernel knows. Several may be opened on one `MemoryState`, in one process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from snapcore import labels as label_keys
from snapcore.conformance.memory_state import Kept, MemoryState
from snapcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from snapcore.filters import compile_filters
from snapcore.mount import Mount
from snapcore.snapshots import (
    Capability,
    Checkpoint,
    FlushReport,
    Info,
    Kind,
    Labels,
    Mounts,
    Page,
    Probe,
    Snapshotter,
    State,
    Usage,
    WrapperChoice,
    hookimpl,
    id_mapping,
    info_fields,
    open_backend,
    refuse_mapped,
)

_MAPS: Final = (label_keys.SNAPSHOT_UIDMAP, label_keys.SNAPSHOT_GIDMAP)


class MemorySnapshotter:
    """The reference on one state; see `SnapshotterSpec` for its methods.

    Args:
        state: what it works on.
    """

    def __init__(self, state: MemoryState) -> None:
        self.state: Final = state
        self._open = True

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        with self.state.guard:
            return self.state.find(key).info

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        with self.state.guard:
            kept = self.state.find(info.name)
            labels = _updated(kept.info, info.labels, fieldpaths)
            for key in _MAPS:
                fixed = kept.info.kind is not Kind.COMMITTED
                if fixed and labels.get(key) != kept.info.labels.get(key):
                    raise InvalidArgument(f"label {key!r} of {info.name!r} is fixed")
            # Strictly later, even where the wall clock was set back.
            now = max(time.time_ns(), kept.info.updated + 1)
            kept.info = replace(kept.info, labels=labels, updated=now)
            return kept.info

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`."""
        checkpoint()
        with self.state.guard:
            return self.state.find(key).usage

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`."""
        with self.state.guard:
            return _mounts(self.state.find(key), self.state.staged)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`."""
        return self._create(Kind.ACTIVE, key, parent, labels, checkpoint)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        return self._create(Kind.VIEW, key, parent, labels, checkpoint)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`."""
        checkpoint()
        with self.state.guard:
            broken = self._broken(name)
            kept = self.state.find(key)
            if kept.info.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {key!r} is {kept.info.kind}, not active")
            refuse_mapped(kept.info)
            below = parent or kept.info.parent
            if broken and broken.parent != below:
                raise AlreadyExists(f"snapshot {name!r}, which is broken, has another parent")
            if parent:
                self._check_rebase(kept.info, parent)
            stored = {**broken.labels, **_stored(labels)} if broken else _stored(labels)
            now = time.time_ns()
            kept.info = Info(Kind.COMMITTED, name, below, stored, created=now, updated=now)
            self.state.snapshots[name] = self.state.snapshots.pop(key)
            return kept.info

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        checkpoint()
        with self.state.guard:
            self.state.find(key)
            for child in self.state.children(key):
                raise FailedPrecondition(f"cannot remove {key!r}: {child.name!r} stands on it")
            return self.state.snapshots.pop(key).info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        accept = compile_filters(filters)
        with self.state.guard:
            infos = [kept.info for kept in self.state.snapshots.values()]
        infos.sort(key=lambda info: info.name.encode())
        found = [
            info
            for info in infos
            if info.name.encode() > after.encode() and accept(info_fields(info))
        ]
        return Page(tuple(found[:limit]))

    @hookimpl
    def mark_broken(self, name: str) -> Info:
        """See `SnapshotterSpec.mark_broken`."""
        with self.state.guard:
            kept = self.state.find(name)
            if kept.info.kind is not Kind.COMMITTED:
                raise FailedPrecondition(f"snapshot {name!r} is {kept.info.kind}, not committed")
            for user in self.state.users(name):
                raise FailedPrecondition(f"{user!r}, which stands on {name!r}, may be mounted")
            kept.info = replace(kept.info, state=State.BROKEN)
            return kept.info

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`: memory is all there is."""
        return FlushReport()

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        was_open, self._open = self._open, False
        return was_open

    def _create(
        self, kind: Kind, key: str, parent: str, labels: Labels, checkpoint: Checkpoint
    ) -> Mounts:
        checkpoint()
        id_mapping(labels)
        with self.state.guard:
            if parent:
                below = self.state.snapshots.get(parent)
                if below is None:
                    raise NotFound(f"no parent {parent!r} for snapshot {key!r}")
                if below.info.kind is not Kind.COMMITTED:
                    raise InvalidArgument(f"parent {parent!r} of {key!r} is {below.info.kind}")
                self.state.expect_whole(parent)
            self.state.expect_free(key)
            now = time.time_ns()
            info = Info(kind, key, parent, _stored(labels), created=now, updated=now)
            kept = Kept(next(self.state.numbers), info)
            ref = labels.get(label_keys.SNAPSHOT_REF, "")
            if kind is Kind.ACTIVE and ref in self.state.remote:
                self.state.expect_free(ref)
                kept.info = replace(info, kind=Kind.COMMITTED, name=ref)
                self.state.snapshots[ref] = kept
                raise AlreadyExists(f"snapshot {ref!r} has been made available")
            self.state.snapshots[key] = kept
            return _mounts(kept, self.state.staged)

    def _check_rebase(self, info: Info, parent: str) -> None:
        base = self.state.snapshots.get(parent)
        if base is None:
            raise NotFound(f"no parent {parent!r} to commit {info.name!r} on")
        if base.info.kind is not Kind.COMMITTED:
            raise FailedPrecondition(f"parent {parent!r} is {base.info.kind}, not committed")
        if info.parent not in ("", parent):
            raise InvalidArgument(f"snapshot {info.name!r} has parent {info.parent!r} already")
        self.state.expect_whole(parent)

    def _broken(self, name: str) -> Info | None:
        """Return the broken snapshot whose place a commit may take, None for none."""
        kept = self.state.snapshots.get(name)
        if kept is not None and kept.info.state is State.BROKEN:
            return kept.info
        self.state.expect_free(name)
        return None


def open_memory(
    state: MemoryState, root: str, *, wrappers: tuple[WrapperChoice, ...] = ()
) -> Snapshotter:
    """Open the reference.

    Args:
        state: what it works on.
        root: an existing directory, which stays empty.
        wrappers: go around its hooks, the first one outermost.
    """
    capabilities = {Capability.REBASE, Capability.REMAP_IDS}
    if state.remote or state.staged:
        capabilities.add(Capability.REMOTE)
    probe = Probe(usable=True, capabilities=frozenset(capabilities))
    return open_backend("memory", root, MemorySnapshotter(state), probe, wrappers=wrappers)


def _mounts(kept: Kept, staged: frozenset[str]) -> Mounts:
    info = kept.info
    if info.kind is Kind.COMMITTED:
        raise FailedPrecondition(f"snapshot {info.name!r} is committed and has no mounts")
    filled = info.kind is Kind.ACTIVE and info.labels.get(label_keys.SNAPSHOT_REF) in staged
    word = "ro" if filled or info.kind is Kind.VIEW else "rw"
    mapping = id_mapping(info.labels)
    return (
        Mount("memory", f"{kept.number}", options=(word, *(mapping.options if mapping else ()))),
    )


def _updated(info: Info, given: Labels, fieldpaths: tuple[str, ...]) -> Labels:
    labels = dict(info.labels)
    for path in fieldpaths or ("labels",):
        key = path.removeprefix("labels.")
        if path == "labels":
            labels = dict(given)
        elif path.startswith("labels.") and key:
            labels[key] = given.get(key, "")
        else:
            raise InvalidArgument(f"field {path!r} of {info.name!r} cannot be changed")
    return _stored(labels)


def _stored(labels: Labels) -> Labels:
    """Leave out labels whose value is empty, which is how labels are deleted."""
    label_keys.check(labels)
    return {key: value for key, value in labels.items() if value}
