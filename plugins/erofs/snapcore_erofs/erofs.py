"""Unpacking without extracting: a layer is its tar, and an EROFS image that points into it.

Snapshots that something is written to through a mount are upper directories of overlayfs, as those
of the overlay snapshotter are. All state but images is core's `DiskStore` and `OverlayStore`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Final

from snapcore.errors import from_os_error
from snapcore.snapshots import (
    Checkpoint,
    DiskStore,
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    Mounts,
    OverlayForm,
    OverlayStore,
    Page,
    Reclaimed,
    Usage,
    disk_usage,
    hookimpl,
    no_checkpoint,
    untried_overlay_form,
)
from snapcore_erofs.layers import Layers
from snapcore_erofs.mounting import LayerMounts
from snapcore_erofs.probe import find_form
from snapcore_erofs.received import mark, received


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator may choose.

    Attributes:
        mount_options: added to every overlay mount.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
    """

    mount_options: tuple[str, ...] = ()
    sync_remove: bool = False


class ErofsSnapshotter:
    """The EROFS snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        settings: what the operator chose.
        form: the form of overlayfs that was found to work there; tried out if None.

    Raises:
        InvalidArgument: a mount option that is not the operator's to set.
        FailedPrecondition: EROFS with overlayfs on top does not work there.
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_layers", "_mounts", "_records", "_upper")

    def __init__(
        self, root: str, settings: Settings | None = None, form: OverlayForm | None = None
    ) -> None:
        root = os.path.abspath(root)
        given = settings or Settings()
        form = form or _find_form(root, given)
        self._disk: Final = DiskStore(root, sync_remove=given.sync_remove)
        self._records: Final = self._disk.records
        self._upper: Final = OverlayStore(self._disk, form, self._layer)
        self._layers: Final = Layers(self._disk, self._upper, form.style)
        self._mounts: Final = LayerMounts(root, self._layers)

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        return self._records.stat(key)

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        return self._records.update(info, fieldpaths)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`: of an image, the tar and the metadata."""
        return self._upper.usage(self._records.get(key), checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind or overlay mount."""
        with self._mounts.use(no_checkpoint):
            return self._upper.mounts(key)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`."""
        checkpoint()
        with self._mounts.use(checkpoint):
            return self._upper.create(Kind.ACTIVE, key, parent, labels, mark)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        checkpoint()
        with self._mounts.use(checkpoint):
            return self._upper.create(Kind.VIEW, key, parent, labels)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the upper directory, written without any mount."""
        with self._mounts.use(no_checkpoint):
            return self._upper.target(key)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`.

        Raises:
            RefusedInput: the layer cannot be applied to those below it.
            FailedPrecondition: something was written beside a layer that was received.
        """
        plan = self._records.check_commit(name, key, parent)
        upper = self._upper.directory(plan.id)
        try:
            with received(self._disk.path(plan.id), upper) as layer:
                if layer is None:
                    self._layers.forget(plan.id)
                    return self._upper.commit(name, key, labels, parent, checkpoint).info
                below = self._below(key, parent)
                hides = self._layers.make(plan.id, below, layer, checkpoint)
            self._upper.mark_bottom(plan.id, hides=hides)
        except OSError as error:
            raise from_os_error(error, f"snapshot {key!r}") from error
        usage = disk_usage(self._layers.directory(plan.id), checkpoint)
        info = self._records.commit(plan, labels, usage)
        # The tar has another name by now, and nothing else was in there.
        shutil.rmtree(upper, ignore_errors=True)
        self._release()
        return info

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        info = self._disk.remove(key, checkpoint).info
        self._release()
        return info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._records.walk(filters, after, limit)

    @hookimpl
    def mark_broken(self, name: str) -> Info:
        """See `SnapshotterSpec.mark_broken`."""
        return self._records.mark_broken(name)

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`."""
        return self._disk.flush()

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`."""
        self._release()
        return self._disk.cleanup(checkpoint)

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`; what is mounted stays, since others may use it."""
        return self._disk.close()

    def _layer(self, snapshot: int) -> str:
        """Return where a committed snapshot's own layer is shown."""
        if self._layers.is_image(snapshot):
            return self._mounts.where(snapshot)
        return self._upper.directory(snapshot)

    def _below(self, key: str, parent: str) -> tuple[int, ...]:
        """Return the layers that show below one that is committed, the nearest first."""
        if not parent:
            return self._upper.lowers(self._records.stack(key, Kind.ACTIVE).parents)
        stack = self._records.stack(parent, Kind.COMMITTED)
        return self._upper.lowers((stack.record.id, *stack.parents))

    def _release(self) -> None:
        self._mounts.release(self._records.bases)


def _find_form(root: str, settings: Settings) -> OverlayForm:
    if os.path.isdir(root) and not os.access(root, os.W_OK):
        return untried_overlay_form(settings.mount_options)
    return find_form(root, settings.mount_options).form
