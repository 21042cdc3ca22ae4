"""The kernel's overlayfs as a snapshotter: a snapshot is the upper directory of its layer.

Below the state root:

    metadata.db             records
    snapshots/<id>/fs       the snapshot's own files; a lower directory of its children
    snapshots/<id>/work     overlayfs's work directory while it is Active
    snapshots/<id>/bottom   a marker: nothing below this snapshot shows (opaque root)

A View of one layer, and a snapshot without parents, are bind mounts. Parents come nearest
first in `lowerdir`. Source: kernel, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from snapcore import labels as label_keys
from snapcore.errors import FailedPrecondition, InvalidArgument, Unimplemented, from_os_error
from snapcore.mount import MAX_LOWERS, IdMapping, Mount
from snapcore.snapshots import (
    Checkpoint,
    DiskStore,
    FlushReport,
    Info,
    Kind,
    Labels,
    LayerTarget,
    Mounts,
    Page,
    Reclaimed,
    Record,
    Usage,
    disk_usage,
    hookimpl,
    id_mapping,
    make_root,
)
from snapcore_overlay.probe import Form, find_form
from snapcore_overlay.upper import is_opaque, make_work, take_root_attributes

_UPPER: Final = "fs"
_WORK: Final = "work"
_BOTTOM: Final = "bottom"
_MAX_OPTIONS: Final = os.sysconf("SC_PAGE_SIZE") - 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator may choose.

    Attributes:
        mount_options: added to every overlay mount.
        sync_remove: delete files in `remove` already, not only in `cleanup`.
        upperdir_label: tell the directory of a snapshot's own files in a label.
    """

    mount_options: tuple[str, ...] = ()
    sync_remove: bool = False
    upperdir_label: bool = True


class OverlaySnapshotter:
    """The overlay snapshotter on one state root; see `SnapshotterSpec` for its methods.

    Args:
        root: the state root; made if it is missing.
        settings: what the operator chose.
        form: the form of overlayfs that was found to work there; tried out if None.

    Raises:
        InvalidArgument: a mount option that is not the operator's to set.
        FailedPrecondition: overlayfs does not work there.
        SnapcoreError: the state root cannot be used.
    """

    __slots__ = ("_disk", "_form", "_records", "_settings")

    def __init__(
        self, root: str, settings: Settings | None = None, form: Form | None = None
    ) -> None:
        root = os.path.abspath(root)
        self._settings: Final = settings or Settings()
        self._form: Final = form or find_form(root, self._settings.mount_options)
        self._disk: Final = DiskStore(root, sync_remove=self._settings.sync_remove)
        self._records: Final = self._disk.records

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
        self._records.update(replace(info, labels=_storable(info.labels)), fieldpaths)
        return self.stat(info.name)

    @hookimpl
    def usage(self, key: str, checkpoint: Checkpoint) -> Usage:
        """See `SnapshotterSpec.usage`: the upper directory alone."""
        record = self._records.get(key)
        return record.usage or disk_usage(self._upper(record.id), checkpoint)

    @hookimpl
    def mounts(self, key: str) -> Mounts:
        """See `SnapshotterSpec.mounts`: one bind or overlay mount."""
        stack = self._records.stack(key)
        mapping = id_mapping(stack.record.info.labels)
        return self._mounts(
            stack.record.info.kind, stack.record.id, self._lowers(stack.parents), mapping
        )

    @hookimpl
    def prepare(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.prepare`.

        Raises:
            FailedPrecondition: so many layers that mount(2) cannot take them.
        """
        checkpoint()
        return self._create(Kind.ACTIVE, key, parent, labels)

    @hookimpl
    def view(self, key: str, parent: str, labels: Labels, checkpoint: Checkpoint) -> Mounts:
        """See `SnapshotterSpec.view`.

        Raises:
            FailedPrecondition: so many layers that mount(2) cannot take them.
        """
        checkpoint()
        return self._create(Kind.VIEW, key, parent, labels)

    @hookimpl
    def target(self, key: str) -> LayerTarget:
        """See `SnapshotterSpec.target`: the upper directory, written without any mount."""
        stack = self._records.stack(key, Kind.ACTIVE)
        lowers = tuple(self._upper(number) for number in self._lowers(stack.parents))
        return LayerTarget(self._upper(stack.record.id), lowers, self._form.style)

    @hookimpl
    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """See `SnapshotterSpec.commit`. Reads whether the layer's root was marked opaque.

        Raises:
            FailedPrecondition: ids are mapped below it, so that its own files have other ids.
        """
        plan = self._records.check_commit(name, key, parent)
        active = self._records.stat(key)
        if active.parent and id_mapping(active.labels):
            raise FailedPrecondition(
                f"snapshot {key!r} was prepared with id maps: its own files carry mapped ids and"
                " are no layer; prepare it without to commit it"
            )
        try:
            self._mark_bottom(plan.id)
        except OSError as error:
            raise from_os_error(error, f"snapshot {key!r}") from error
        usage = disk_usage(self._upper(plan.id), checkpoint)
        self._records.commit(plan, _storable(labels), usage)
        return self.stat(name)

    @hookimpl
    def remove(self, key: str, checkpoint: Checkpoint) -> Info:
        """See `SnapshotterSpec.remove`."""
        return self._present(self._disk.remove(key, checkpoint))

    @hookimpl
    def walk(self, filters: tuple[str, ...], after: str, limit: int) -> Page:
        """See `SnapshotterSpec.walk`."""
        return self._records.walk(filters, after, limit, self._present)

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

    def _create(self, kind: Kind, key: str, parent: str, labels: Labels) -> Mounts:
        mapping = id_mapping(labels)
        with self._disk.creating(kind, key, parent, _storable(labels)) as draft:
            # Before anything is made: a snapshot that nobody can mount is of no use.
            if mapping and not self._form.remap_ids:
                raise Unimplemented(
                    f"snapshot {key!r}: ids cannot be mapped here (kernel, filesystem or user"
                    " namespace); leave the id map labels out"
                )
            lowers = self._lowers(draft.parents)
            self._check_layers(key, kind, draft.id, lowers)
            mounts = self._mounts(kind, draft.id, lowers, mapping)
            upper = os.path.join(draft.directory, _UPPER)
            try:
                make_root(upper)
                if draft.parents:
                    take_root_attributes(self._upper(draft.parents[0]), upper, mapping)
                if kind is Kind.ACTIVE:
                    make_work(os.path.join(draft.directory, _WORK))
            except OSError as error:
                raise from_os_error(error, f"directories of snapshot {key!r}") from error
        return mounts

    def _present(self, record: Record) -> Info:
        """Add the label that tells where the snapshot's own files are."""
        if not self._settings.upperdir_label:
            return record.info
        labels = {**record.info.labels, label_keys.OVERLAY_UPPERDIR: self._upper(record.id)}
        return replace(record.info, labels=labels)

    def _upper(self, number: int) -> str:
        return self._disk.path(number, _UPPER)

    def _lowers(self, parents: tuple[int, ...]) -> tuple[int, ...]:
        """Return the parents that show, the nearest first: down to an opaque root."""
        for position, number in enumerate(parents, 1):
            if os.path.lexists(self._disk.path(number, _BOTTOM)):
                return parents[:position]
        return parents

    def _mark_bottom(self, number: int) -> None:
        # overlayfs itself ignores the mark on a root directory, so it must be kept elsewhere.
        marker = self._disk.path(number, _BOTTOM)
        if is_opaque(self._upper(number), self._form.style):
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        else:
            with suppress(FileNotFoundError):
                os.unlink(marker)

    def _mounts(
        self, kind: Kind, number: int, lowers: tuple[int, ...], mapping: IdMapping | None
    ) -> Mounts:
        mapped = mapping.options if mapping else ()
        if not lowers:
            access = "rw" if kind is Kind.ACTIVE else "ro"
            return (Mount("bind", self._upper(number), options=("rbind", access, *mapped)),)
        if kind is Kind.VIEW and len(lowers) == 1:
            return (Mount("bind", self._upper(lowers[0]), options=("rbind", "ro", *mapped)),)
        lowerdir = "lowerdir=" + ":".join(self._upper(lower) for lower in lowers)
        options = (*mapped, *self._own_options(kind, number), lowerdir)
        return (Mount("overlay", "overlay", options=options),)

    def _own_options(self, kind: Kind, number: int) -> tuple[str, ...]:
        if kind is not Kind.ACTIVE:
            return (*self._form.options, "ro")
        work = f"workdir={self._disk.path(number, _WORK)}"
        return (*self._form.options, work, f"upperdir={self._upper(number)}")

    def _check_layers(self, key: str, kind: Kind, number: int, lowers: tuple[int, ...]) -> None:
        """Refuse what cannot be mounted.

        Where lower directories cannot be named one by one, a page of options must hold them,
        written relative to their common directory, as all mounters do.
        """
        if len(lowers) > MAX_LOWERS:
            raise FailedPrecondition(
                f"snapshot {key!r} has {len(lowers)} layers, and overlayfs takes {MAX_LOWERS};"
                " flatten the image or use another snapshotter"
            )
        short = "lowerdir=" + ":".join(f"{lower}/{_UPPER}" for lower in lowers)
        length = len(os.fsencode(",".join([*self._own_options(kind, number), short])))
        if length > _MAX_OPTIONS and not self._form.one_by_one:
            raise FailedPrecondition(
                f"snapshot {key!r} has {len(lowers)} layers, which take {length} bytes of mount"
                f" options, and this kernel's mount takes {_MAX_OPTIONS}; flatten the image or"
                " use another snapshotter"
            )


def _storable(labels: Labels) -> Labels:
    """Leave the made-up label out of what a caller gives back."""
    return {key: value for key, value in labels.items() if key != label_keys.OVERLAY_UPPERDIR}
