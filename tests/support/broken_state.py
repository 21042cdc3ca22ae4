"""References that keep their records wrongly."""

from __future__ import annotations

import os
import threading
import unicodedata
from dataclasses import replace

from snapcore import labels as label_keys
from snapcore.conformance.memory import MemorySnapshotter
from snapcore.conformance.memory_state import Kept, MemoryState
from snapcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from snapcore.snapshots import (
    Checkpoint,
    Info,
    Kind,
    Labels,
    Mounts,
    Usage,
    hookimpl,
    no_checkpoint,
)


class KeepsKey(MemorySnapshotter):
    """The key is still there after commit (moby/moby 633 asked for that)."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        before = self.state.snapshots.get(key)
        active = before and before.info
        info = super().commit(name, key, labels, parent, checkpoint)
        if active:
            self.state.snapshots[key] = Kept(0, active)
        return info


class RemovesParents(MemorySnapshotter):
    """What has children can be removed."""

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        try:
            return super().remove(key, checkpoint)
        except FailedPrecondition:
            return self.state.snapshots.pop(key).info


class AnyParent(MemorySnapshotter):
    """A snapshot can stand on one that is not committed."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        try:
            return super().prepare(key, parent, labels, checkpoint)
        except InvalidArgument:
            return super().prepare(key, "", labels, checkpoint)


class RebasesAnything(MemorySnapshotter):
    """A snapshot that has a parent can be committed onto another one."""

    def _check_rebase(self, info: Info, parent: str) -> None:
        super()._check_rebase(replace(info, parent=""), parent)


class NormalisesKeys(MemorySnapshotter):
    """Keys that look the same are the same."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        return super().prepare(unicodedata.normalize("NFC", key), parent, labels, checkpoint)


class ShortKeys(MemorySnapshotter):
    """Keys are cut to the length of a file name."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        return super().prepare(key[:255], parent, labels, checkpoint)


class KeepsEmptyLabels(MemorySnapshotter):
    """An empty value does not delete a label."""

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        answer = super().update(info, fieldpaths)
        empty = {key: "" for key, value in info.labels.items() if not value}
        kept = self.state.snapshots[info.name]
        kept.info = replace(answer, labels={**answer.labels, **empty})
        return kept.info


class PathsReplaceAll(MemorySnapshotter):
    """Update replaces all labels, whatever the field paths are."""

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        given = info.labels if "labels" in fieldpaths else {
            key: value for key, value in info.labels.items() if f"labels.{key}" in fieldpaths
        }  # fmt: skip
        return super().update(replace(info, labels=given) if fieldpaths else info, ())


class ForgetsAtClose(MemorySnapshotter):
    """What an instance made is gone when it is closed."""

    @hookimpl
    def close(self) -> bool:
        if super().close():
            self.state.snapshots.clear()
            return True
        return False


class KeyOfTheCancelled(MemorySnapshotter):
    """The key of a prepare that was cancelled stays taken."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        mounts = super().prepare(key, parent, labels, no_checkpoint)
        checkpoint()
        return mounts


class Unlocked(MemorySnapshotter):
    """Looks, and acts a moment later."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        free = name not in self.state.snapshots
        threading.Event().wait(0.001)
        if free:
            self.state.snapshots.pop(name, None)
        return super().commit(name, key, labels, parent, checkpoint)


class LeaksDescriptors(MemorySnapshotter):
    """Each prepare leaves a file open, until the process ends."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        _LEAKED.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        return super().prepare(key, parent, labels, checkpoint)


class LeaksThreads(MemorySnapshotter):
    """Closing leaves a thread behind, until all is over."""

    @hookimpl
    def close(self) -> bool:
        if not super().close():
            return False
        ended = threading.Event()
        thread = threading.Thread(target=ended.wait, name="left behind")
        thread.start()
        _WAITING.append((ended, thread))
        return True


class SuppliesElsewhere(MemorySnapshotter):
    """A layer that it has made available by itself has another parent."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        ref = labels.get(label_keys.SNAPSHOT_REF, "")
        if parent and ref in self.state.remote:
            info = Info(Kind.COMMITTED, ref, "", {label_keys.SNAPSHOT_REF: ref})
            self.state.snapshots[ref] = Kept(next(self.state.numbers), info)
            raise AlreadyExists(ref)
        return super().prepare(key, parent, labels, checkpoint)


class UsageOfNothing(MemorySnapshotter):
    """Usage of what is not there is nothing."""

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        try:
            return super().usage(key, checkpoint)
        except NotFound:
            return Usage()


class SkipsAGeneration(MemorySnapshotter):
    """The parent of what is committed is its grandparent."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        super().commit(name, key, labels, parent, checkpoint)
        kept = self.state.snapshots[name]
        below = self.state.snapshots.get(kept.info.parent)
        if below and below.info.parent:
            kept.info = replace(kept.info, parent=below.info.parent)
        return kept.info


class SeesOnlyItsOwn(MemorySnapshotter):
    """What another instance has made since this one was opened is not there."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(replace(state, snapshots=dict(state.snapshots)))


class LooksThenActs(MemorySnapshotter):
    """Commits what it has looked at, whether or not it is there any more."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        kept = self.state.snapshots.get(key)
        checkpoint()
        if kept:
            self.state.snapshots[key] = Kept(kept.number, replace(kept.info, name=key))
        return super().commit(name, key, labels, parent, no_checkpoint)


class RefusesTheOvertaken(MemorySnapshotter):
    """Says of a snapshot that has become another one something that was never true."""

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        before = self.state.snapshots.get(key)
        checkpoint()
        if self.state.snapshots.get(key) is not before:
            raise FailedPrecondition(f"snapshot {key!r} was replaced while it was committed")
        return super().commit(name, key, labels, parent, no_checkpoint)


class IgnoresMaps(MemorySnapshotter):
    """Claims not to map ids, and shows the wrong ones instead of refusing."""


_LEAKED: list[int] = []
_WAITING: list[tuple[threading.Event, threading.Thread]] = []


def let_go() -> None:
    """Give back what the leaking ones have kept, so that a test can look at its own leaks."""
    while _LEAKED:
        os.close(_LEAKED.pop())
    while _WAITING:
        ended, thread = _WAITING.pop()
        ended.set()
        thread.join()
