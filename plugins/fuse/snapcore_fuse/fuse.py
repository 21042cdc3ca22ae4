"""The lazy snapshotter: layers that are fetched when they are read, beside unpacked ones.

All state but what is lazy is core's `DiskStore` and `OverlayStore`: below the state root
`metadata.db` and `snapshots/<id>`.
"""

from __future__ import annotations

import os
from typing import Final

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
    hookimpl,
)
from snapcore_fuse.probe import find_form
from snapcore_fuse.settings import Settings


class FuseSnapshotter:
    """The lazy snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        settings: what the operator chose.
        form: the form of overlayfs that was found to work there; tried out if None.

    Raises:
        InvalidArgument: a mount option that is not the operator's to set.
        FailedPrecondition: FUSE with overlayfs on top does not work there.
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_layers", "_records", "_settings")

    def __init__(
        self, root: str, settings: Settings | None = None, form: OverlayForm | None = None
    ) -> None:
        root = os.path.abspath(root)
        self._settings: Final = settings or Settings()
        form = form or find_form(root, self._settings.mount_options)
        self._disk: Final = DiskStore(root, sync_remove=self._settings.sync_remove)
        self._records: Final = self._disk.records
        self._layers: Final = OverlayStore(self._disk, form)

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
        """See `SnapshotterSpec.usage`: what is on this disk."""
        return self._layers.usage(self._records.get(key), checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind or overlay mount."""
        return self._layers.mounts(key)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`."""
        checkpoint()
        return self._layers.create(Kind.ACTIVE, key, parent, labels)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        checkpoint()
        return self._layers.create(Kind.VIEW, key, parent, labels)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the upper directory, written without any mount."""
        return self._layers.target(key)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`."""
        self._layers.commit(name, key, labels, parent, checkpoint)
        return self.stat(name)

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        return self._disk.remove(key, checkpoint).info

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._records.walk(filters, after, limit)

    @hookimpl
    def flush(self) -> FlushReport:
        """See `SnapshotterSpec.flush`."""
        return self._disk.flush()

    @hookimpl
    def cleanup(self, checkpoint: Checkpoint) -> Reclaimed:
        """See `SnapshotterSpec.cleanup`."""
        return self._disk.cleanup(checkpoint)

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        return self._disk.close()
