"""Snapshots as upper directories of overlayfs, for every backend that mounts one.

Beside the records and directories of a `DiskStore`:

    snapshots/<id>/fs       the snapshot's own files; a lower directory of its children
    snapshots/<id>/work     overlayfs's work directory while it is Active
    snapshots/<id>/bottom   a marker: nothing below this snapshot shows (opaque root)

A View of one layer, and a snapshot without parents, are bind mounts. Parents come nearest
first in `lowerdir`. A backend whose layers may lie elsewhere says where, by id. Source: kernel,
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from snapcore.errors import FailedPrecondition, Unimplemented, from_os_error
from snapcore.mount import MAX_LOWERS, IdMapping, Mount
from snapcore.snapshots.dirs import make_root
from snapcore.snapshots.disk import DiskStore
from snapcore.snapshots.hookspecs import Checkpoint
from snapcore.snapshots.overlayform import OverlayForm
from snapcore.snapshots.records import Record
from snapcore.snapshots.remap import id_mapping, refuse_mapped
from snapcore.snapshots.tree import disk_usage
from snapcore.snapshots.types import Kind, Labels, LayerTarget, Mounts, Usage
from snapcore.snapshots.upperdir import is_opaque, make_work, take_root_attributes

_UPPER: Final = "fs"
_WORK: Final = "work"
_BOTTOM: Final = "bottom"
_MAX_OPTIONS: Final = os.sysconf("SC_PAGE_SIZE") - 1


class OverlayStore:
    """The upper directories of the snapshots in a `DiskStore`, and what they are mounted by.

    Args:
        disk: records and directories.
        form: the form of overlayfs that works here.
        layer: says by id where a committed snapshot's layer lies; in its own upper directory
            if None.
    """

    __slots__ = ("_disk", "_form", "_layer", "_records")

    def __init__(
        self, disk: DiskStore, form: OverlayForm, layer: Callable[[int], str] | None = None
    ) -> None:
        self._disk = disk
        self._records = disk.records
        self._form = form
        self._layer: Final = layer or self.directory

    def directory(self, number: int) -> str:
        """Return where a snapshot's own files are, by its id."""
        return self._disk.path(number, _UPPER)

    def create(
        self,
        kind: Kind,
        key: str,
        parent: str,
        labels: Labels,
        furnish: Callable[[str], None] | None = None,
    ) -> Mounts:
        """Do what `prepare` and `view` do; see `SnapshotterSpec`.

        Args:
            kind: Active or View.
            key: of the snapshot.
            parent: its name, "" for none.
            labels: of the snapshot.
            furnish: puts more into the snapshot's directory, whose path it gets; it may raise
                OSError.

        Raises:
            FailedPrecondition: so many layers that mount(2) cannot take them.
            Unimplemented: ids shall be mapped, and cannot be here.
            SnapcoreError: as `DiskStore.creating`.
        """
        mapping = id_mapping(labels)
        with self._disk.creating(kind, key, parent, labels) as draft:
            # Before anything is made: a snapshot that nobody can mount is of no use.
            if mapping and not self._form.remap_ids:
                raise Unimplemented(
                    f"snapshot {key!r}: ids cannot be mapped here (kernel, filesystem or user"
                    " namespace); leave the id map labels out"
                )
            lowers = self.lowers(draft.parents)
            self._check_layers(key, kind, draft.id, lowers)
            mounts = self._mounts(kind, draft.id, lowers, mapping)
            upper = os.path.join(draft.directory, _UPPER)
            try:
                make_root(upper)
                if draft.parents:
                    take_root_attributes(self._layer(draft.parents[0]), upper, mapping)
                if kind is Kind.ACTIVE:
                    make_work(os.path.join(draft.directory, _WORK))
                if furnish is not None:
                    furnish(draft.directory)
            except OSError as error:
                raise from_os_error(error, f"directories of snapshot {key!r}") from error
        return mounts

    def mounts(self, key: str) -> Mounts:
        """Return one bind or overlay mount; see `SnapshotterSpec.mounts`."""
        stack = self._records.stack(key)
        mapping = id_mapping(stack.record.info.labels)
        lowers = self.lowers(stack.parents)
        return self._mounts(stack.record.info.kind, stack.record.id, lowers, mapping)

    def target(self, key: str) -> LayerTarget:
        """Return the upper directory, which is written without any mount.

        Raises:
            NotFound, FailedPrecondition, DataLoss: as `MetaStore.stack`.
            FailedPrecondition: it was prepared with id maps.
        """
        stack = self._records.stack(key, Kind.ACTIVE)
        refuse_mapped(stack.record.info)
        lowers = tuple(self._layer(number) for number in self.lowers(stack.parents))
        return LayerTarget(self.directory(stack.record.id), lowers, self._form.style)

    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Record:
        """Do what `commit` does; read whether the layer's root was marked opaque.

        Returns:
            What was recorded.

        Raises:
            SnapcoreError: as `MetaStore.check_commit`.
        """
        plan = self._records.check_commit(name, key, parent)
        upper = self.directory(plan.id)
        try:
            self.mark_bottom(plan.id, hides=is_opaque(upper, self._form.style))
        except OSError as error:
            raise from_os_error(error, f"snapshot {key!r}") from error
        usage = disk_usage(upper, checkpoint)
        return Record(plan.id, self._records.commit(plan, labels, usage), usage)

    def usage(self, record: Record, checkpoint: Checkpoint) -> Usage:
        """Return what was stored at commit, or measure the upper directory."""
        return record.usage or disk_usage(self.directory(record.id), checkpoint)

    def lowers(self, parents: tuple[int, ...]) -> tuple[int, ...]:
        """Return the parents that show, the nearest first: down to an opaque root."""
        for position, number in enumerate(parents, 1):
            if os.path.lexists(self._disk.path(number, _BOTTOM)):
                return parents[:position]
        return parents

    def mark_bottom(self, number: int, *, hides: bool) -> None:
        """Note whether a layer's root hides everything below it.

        overlayfs itself ignores the mark on a root directory, so it must be kept elsewhere.

        Raises:
            OSError: it cannot be noted.
        """
        marker = self._disk.path(number, _BOTTOM)
        if hides:
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
            return (Mount("bind", self.directory(number), options=("rbind", access, *mapped)),)
        if kind is Kind.VIEW and len(lowers) == 1:
            return (Mount("bind", self._layer(lowers[0]), options=("rbind", "ro", *mapped)),)
        lowerdir = "lowerdir=" + ":".join(self._layer(lower) for lower in lowers)
        options = (*mapped, *self._own_options(kind, number), lowerdir)
        return (Mount("overlay", "overlay", options=options),)

    def _own_options(self, kind: Kind, number: int) -> tuple[str, ...]:
        if kind is not Kind.ACTIVE:
            return (*self._form.options, "ro")
        work = f"workdir={self._disk.path(number, _WORK)}"
        return (*self._form.options, work, f"upperdir={self.directory(number)}")

    def _check_layers(self, key: str, kind: Kind, number: int, lowers: tuple[int, ...]) -> None:
        """Refuse what cannot be mounted.

        Where lower directories cannot be named one by one, here or by whom the mounts are for,
        a page of options must hold them, written relative to their common directory, as all
        mounters do.
        """
        if len(lowers) > MAX_LOWERS:
            raise FailedPrecondition(
                f"snapshot {key!r} has {len(lowers)} layers, and overlayfs takes {MAX_LOWERS};"
                " flatten the image or use another snapshotter"
            )
        if self._form.one_by_one or not lowers:
            return
        layers = [self._layer(lower) for lower in lowers]
        base = os.path.commonpath([os.path.dirname(layer) for layer in layers])
        short = "lowerdir=" + ":".join(os.path.relpath(layer, base) for layer in layers)
        length = len(os.fsencode(",".join([*self._own_options(kind, number), short])))
        if length > _MAX_OPTIONS:
            raise FailedPrecondition(
                f"snapshot {key!r} has {len(lowers)} layers, which take {length} bytes of mount"
                f" options, and mount(2) takes {_MAX_OPTIONS}; flatten the image or use another"
                " snapshotter"
            )
