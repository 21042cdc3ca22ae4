"""Overlay snapshotters that stack their layers wrongly."""

from __future__ import annotations

from snapcore.errors import NotFound
from snapcore.snapshots import Checkpoint, Info, Labels, hookimpl
from snapcore_overlay import OverlaySnapshotter


class RebasesOntoNothing(OverlaySnapshotter):
    """A layer stays where it was prepared, whatever it is committed onto."""

    __slots__ = ()

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        return super().commit(name, key, labels, "", checkpoint)


class RebasesOntoTheGone(OverlaySnapshotter):
    """A layer whose new parent is not there any more has none."""

    __slots__ = ()

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        checkpoint()
        try:
            return super().commit(name, key, labels, parent, checkpoint)
        except NotFound:
            return super().commit(name, key, labels, "", checkpoint)
