"""The kernel's overlayfs as a snapshotter: a snapshot is the upper directory of its layer.

All state is core's `DiskStore` and `OverlayStore`: below the state root `metadata.db` and
`snapshots/<id>`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from snapcore import labels as label_keys
from snapcore.errors import InvalidArgument
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
    Record,
    Usage,
    find_overlay_form,
    hookimpl,
    untried_overlay_form,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator may choose.

    Attributes:
        mount_options: added to every overlay mount.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
        upperdir_label: tell the directory of a snapshot's own files in a label.
        selinux_context: label of everything in overlay mounts, "" for the files' own labels.
        classic_mounts: make only snapshots that any program can mount with mount(2), one page of
            options, as containerd and mount(8) do.
    """

    mount_options: tuple[str, ...] = ()
    sync_remove: bool = False
    upperdir_label: bool = True
    selinux_context: str = ""
    classic_mounts: bool = False


class OverlaySnapshotter:
    """The overlay snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        settings: what the operator chose.
        form: the form of overlayfs that was found to work there; tried out if None, unless the
            root cannot be written.

    Raises:
        InvalidArgument: a mount option that is not the operator's to set.
        FailedPrecondition: overlayfs does not work there.
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_layers", "_records", "_settings")

    def __init__(
        self, root: str, settings: Settings | None = None, form: OverlayForm | None = None
    ) -> None:
        root = os.path.abspath(root)
        given = settings or Settings()
        form = form or _find_form(root, given)
        if given.classic_mounts:
            form = replace(form, one_by_one=False)
        self._settings: Final = given
        self._disk: Final = DiskStore(root, sync_remove=given.sync_remove)
        self._records: Final = self._disk.records
        self._layers: Final = OverlayStore(self._disk, form)

    @hookimpl
    def stat(self, key: str) -> Info:
        """See `SnapshotterSpec.stat`."""
        return self._present(self._records.get(key))

    @hookimpl
    def update(self, info: Info, fieldpaths: tuple[str, ...]) -> Info:
        """See `SnapshotterSpec.update`."""
        if f"labels.{label_keys.OVERLAY_UPPERDIR}" in fieldpaths:
            raise InvalidArgument(
                f"label {label_keys.OVERLAY_UPPERDIR!r} is made up by the overlay snapshotter"
                " and cannot be set"
            )
        wanted = replace(info, labels=_storable(info.labels))
        return self._records.update(wanted, fieldpaths, self._present)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`: the upper directory alone."""
        return self._layers.usage(self._records.get(key), checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind or overlay mount."""
        return self._layers.mounts(key)

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`.

        Raises:
            FailedPrecondition: so many layers that mount(2) cannot take them.
        """
        checkpoint()
        return self._layers.create(Kind.ACTIVE, key, parent, _storable(labels))

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`.

        Raises:
            FailedPrecondition: so many layers that mount(2) cannot take them.
        """
        checkpoint()
        return self._layers.create(Kind.VIEW, key, parent, _storable(labels))

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the upper directory, written without any mount."""
        return self._layers.target(key)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`. Reads whether the layer's root was marked opaque."""
        return self._present(self._layers.commit(name, key, _storable(labels), parent, checkpoint))

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        return self._present(self._disk.remove(key, checkpoint))

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._records.walk(filters, after, limit, self._present)

    @hookimpl
    def mark_broken(self, name: str) -> Info:
        """See `SnapshotterSpec.mark_broken`."""
        return self._records.mark_broken(name, self._present)

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

    def _present(self, record: Record) -> Info:
        """Add the label that tells where the snapshot's own files are."""
        if not self._settings.upperdir_label:
            return record.info
        labels = {
            **record.info.labels,
            label_keys.OVERLAY_UPPERDIR: self._layers.directory(record.id),
        }
        return replace(record.info, labels=labels)


def _storable(labels: Labels) -> Labels:
    """Leave the made-up label out of what a caller gives back."""
    return {key: value for key, value in labels.items() if key != label_keys.OVERLAY_UPPERDIR}


def _find_form(root: str, settings: Settings) -> OverlayForm:
    options = settings.mount_options, settings.selinux_context
    if os.path.isdir(root) and not os.access(root, os.W_OK):
        return untried_overlay_form(*options)
    return find_overlay_form(root, *options)
