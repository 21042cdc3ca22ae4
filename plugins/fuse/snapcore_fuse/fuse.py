"""The lazy snapshotter: layers that are fetched when they are read, beside unpacked ones.

All state but what is lazy is core's `DiskStore` and `OverlayStore`: below the state root
`metadata.db` and `snapshots/<id>`.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from snapcore import labels as label_keys
from snapcore.errors import AlreadyExists, FailedPrecondition, SnapcoreError
from snapcore.mount import Mount
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
    SnapshotStatus,
    Usage,
    hookimpl,
    untried_overlay_form,
)
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.lazy import LazyStore, layer_of
from snapcore_fuse.probe import find_form
from snapcore_fuse.settings import Settings

_log = logging.getLogger(__name__)


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

    __slots__ = ("_daemon", "_disk", "_layers", "_lazy", "_places", "_records", "_settings")

    def __init__(
        self, root: str, settings: Settings | None = None, form: OverlayForm | None = None
    ) -> None:
        root = os.path.abspath(root)
        self._settings: Final = settings or Settings()
        form = form or _find_form(root, self._settings.mount_options)
        self._places: Final = Places(root)
        self._daemon: Final = Daemon(self._places, self._settings)
        self._disk: Final = DiskStore(root, sync_remove=self._settings.sync_remove)
        self._records: Final = self._disk.records
        self._layers: Final = OverlayStore(self._disk, form, self._layer)
        self._lazy: Final = LazyStore(self._disk, self._layers, form, self._daemon)
        self._wake_quietly()

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
        self._wake()
        record = self._records.get(key)
        if record.info.kind is Kind.ACTIVE and self._lazy.is_lazy(record.id):
            return self._staged(record.id)
        return self._layers.mounts(key)

    @hookimpl
    def status(self, key: str) -> SnapshotStatus:
        """See `SnapshotterSpec.status`."""
        return self._lazy.status(key)

    @hookimpl
    def plan(self, labels: Labels, checkpoint: Checkpoint) -> SnapshotStatus:
        """See `SnapshotterSpec.plan`."""
        layer = layer_of(labels)
        return self._lazy.plan(layer, checkpoint) if layer else SnapshotStatus()

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`: both remote forms, and what must be unpacked.

        Raises:
            AlreadyExists: the key is taken; or the layer that labels tell of is here now, under
                the name that they give it.
        """
        checkpoint()
        self._wake()
        layer = layer_of(labels)
        if layer is None:
            return self._layers.create(Kind.ACTIVE, key, parent, labels)
        if not parent and labels.get(label_keys.SNAPSHOT_PARENT_CHAIN_ID):
            reason = self._lazy.stage(key, labels, layer, checkpoint)
            if not reason:
                return self._staged(self._records.get(key).id)
        else:
            reason = self._lazy.supply(key, parent, labels, layer, checkpoint)
            if not reason:
                name = labels[label_keys.SNAPSHOT_REF]
                raise AlreadyExists(f"layer {layer.digest} is supplied as snapshot {name!r}")
        _log.info("layer %s is unpacked: %s", layer.digest, reason)
        mounts = self._layers.create(Kind.ACTIVE, key, parent, labels)
        self._lazy.note(key, reason)
        return mounts

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`."""
        checkpoint()
        self._wake()
        return self._layers.create(Kind.VIEW, key, parent, labels)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the upper directory, written without any mount.

        Raises:
            FailedPrecondition: the layer is supplied already, and only has to be committed.
        """
        self._wake()
        if self._lazy.is_lazy(self._records.get(key).id):
            raise FailedPrecondition(
                f"snapshot {key!r} has its content without a layer being applied; commit it"
            )
        return self._layers.target(key)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`."""
        plan = self._records.check_commit(name, key, parent)
        if self._lazy.is_lazy(plan.id):
            return self._lazy.commit(name, key, labels, parent, checkpoint)
        return self._layers.commit(name, key, labels, parent, checkpoint).info

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        return self._lazy.remove(key, checkpoint).info

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
        return self._disk.cleanup(checkpoint)

    @hookimpl
    def close(self) -> bool:
        """See `SnapshotterSpec.close`."""
        if self._lazy.asked and not self._daemon.wanted():
            self._daemon.dismiss()
        return self._disk.close()

    def _layer(self, snapshot: int) -> str:
        """Return where a committed snapshot's own layer is shown."""
        if self._lazy.is_lazy(snapshot):
            return self._places.tree(snapshot)
        return self._layers.directory(snapshot)

    def _staged(self, snapshot: int) -> Mounts:
        """Return mounts that say, being read-only, that there is nothing to apply."""
        return (Mount("bind", self._layers.directory(snapshot), options=("rbind", "ro")),)

    def _wake(self) -> None:
        """Make sure that lazy layers are served, if there are any.

        Raises:
            Unavailable, FailedPrecondition: they cannot be.
        """
        if self._daemon.wanted():
            self._daemon.ensure()

    def _wake_quietly(self) -> None:
        try:
            self._wake()
        except SnapcoreError as error:
            # Much can be done without: whoever wants to mount something is told again.
            _log.warning("lazy layers below %r are not served: %s", self._places.root, error)


def _find_form(root: str, mount_options: tuple[str, ...]) -> OverlayForm:
    if os.path.isdir(root) and not os.access(root, os.W_OK):
        return untried_overlay_form(mount_options)
    return find_form(root, mount_options)
