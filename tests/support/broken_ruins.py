"""Snapshotters that treat broken snapshots wrongly."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from snapcore.conformance.memory import MemorySnapshotter
from snapcore.errors import AlreadyExists, DataLoss, FailedPrecondition
from snapcore.snapshots import Checkpoint, Info, Kind, Labels, Mounts, State, hookimpl


class StandsOnRuins:
    """Nothing is said of a parent that is broken."""

    @hookimpl(wrapper=True)
    def prepare(self) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except DataLoss:
            return ()


class KeyBeforeRuins:
    """View looks at the key before it looks whether the parent is broken."""

    @hookimpl(wrapper=True)
    def view(self, key: str) -> Generator[None, Mounts, Mounts]:
        try:
            return (yield)
        except DataLoss:
            if key == "active":
                raise AlreadyExists(key) from None
            raise


class HidesRuins:
    """Stat says of what is broken that it is whole."""

    @hookimpl(wrapper=True)
    def stat(self) -> Generator[None, Info, Info]:
        info = yield
        return replace(info, state=State.DURABLE)


class BreaksWhatIsUsed(MemorySnapshotter):
    """A snapshot can be taken out of use while something that stands on it is mounted."""

    @hookimpl
    def mark_broken(self, name: str) -> Info:
        try:
            return super().mark_broken(name)
        except FailedPrecondition:
            kept = self.state.find(name)
            if kept.info.kind is not Kind.COMMITTED:
                raise
            kept.info = replace(kept.info, state=State.BROKEN)
            return kept.info


class LooksAtTheParentOnly(MemorySnapshotter):
    """What stands on something that stands on a broken snapshot is fine."""

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        below = self.state.snapshots.get(parent)
        if not below or below.info.state is State.BROKEN:
            return super().prepare(key, parent, labels, checkpoint)
        ruins = {
            name: kept.info
            for name, kept in self.state.snapshots.items()
            if kept.info.state is State.BROKEN
        }
        for name, info in ruins.items():
            self.state.snapshots[name].info = replace(info, state=State.DURABLE)
        try:
            return super().prepare(key, parent, labels, checkpoint)
        finally:
            for name, info in ruins.items():
                self.state.snapshots[name].info = info


class RuinsAreTaken(MemorySnapshotter):
    """The name of a broken snapshot is taken for good."""

    def _broken(self, name: str) -> Info | None:
        self.state.expect_free(name)
        return None


class ForgetsWhatItReplaces(MemorySnapshotter):
    """What takes the place of a broken snapshot has none of its labels."""

    def _broken(self, name: str) -> Info | None:
        broken = super()._broken(name)
        return replace(broken, labels={}) if broken else None
