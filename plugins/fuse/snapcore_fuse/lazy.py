"""The snapshotter's lazy half: from labels to a committed snapshot that nobody has unpacked."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from typing import Final

from snapcore import labels as label_keys
from snapcore.errors import FailedPrecondition, PermissionDenied, SnapcoreError, from_os_error
from snapcore.snapshots import (
    Checkpoint,
    DiskStore,
    Draft,
    Info,
    Kind,
    Labels,
    OverlayForm,
    OverlayStore,
    Record,
    SnapshotStatus,
    disk_usage,
    make_root,
    no_checkpoint,
)
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.messages import Build, Layer, Outcome
from snapcore_fuse.daemon.places import Files

_log = logging.getLogger(__name__)
_REASON: Final = "reason"
_MAX_REASON: Final = 2000
_UPPER: Final = "fs"


def layer_of(labels: Labels) -> Layer | None:
    """Return the layer that labels tell of; None if they do not say where it comes from."""
    keys = (
        label_keys.SNAPSHOT_REF,
        label_keys.CRI_IMAGE_REF,
        label_keys.CRI_MANIFEST_DIGEST,
        label_keys.CRI_LAYER_DIGEST,
        label_keys.SNAPSHOT_DIFF_ID,
    )
    if not all(labels.get(key) for key in keys):
        return None
    digest = labels[label_keys.CRI_LAYER_DIGEST]
    layers = labels.get(label_keys.CRI_IMAGE_LAYERS, "").split(",")
    return Layer(
        image=labels[label_keys.CRI_IMAGE_REF],
        manifest=labels[label_keys.CRI_MANIFEST_DIGEST],
        digest=digest,
        diff_id=labels[label_keys.SNAPSHOT_DIFF_ID],
        following=tuple(each for each in layers if each and each != digest),
        plain_http=labels.get(label_keys.SOURCE_PLAIN_HTTP) == "true",
        insecure=labels.get(label_keys.SOURCE_INSECURE) == "true",
    )


def _why(error: SnapcoreError) -> str:
    """Return why a layer must be unpacked whose index could not be fetched."""
    if isinstance(error, PermissionDenied):
        # The pull goes on with its own credentials, and its user wonders.
        return (
            f"{error} (reads long after a pull go by the docker config, or the file"
            " plugins.fuse.secrets, and not by --creds)"
        )
    return str(error)


class _Unpack(Exception):
    """A signal: the layer must be unpacked as usual. Its text is the reason."""


class LazyStore:
    """The lazy snapshots beside the others of one state root.

    Args:
        disk: records and directories.
        layers: mounts and upper directories; asks `layer` where layers lie.
        form: the form of overlayfs.
        daemon: who fetches and serves.

    Attributes:
        asked: whether the daemon was asked for a layer.
    """

    __slots__ = ("_daemon", "_disk", "_form", "_layers", "asked")

    def __init__(
        self, disk: DiskStore, layers: OverlayStore, form: OverlayForm, daemon: Daemon
    ) -> None:
        self._disk: Final = disk
        self._layers: Final = layers
        self._form: Final = form
        self._daemon: Final = daemon
        self.asked = False

    def is_lazy(self, snapshot: int) -> bool:
        """Tell by its id whether a snapshot is lazy."""
        return os.path.isdir(Files(self._disk.path(snapshot)).lazy)

    def plan(self, layer: Layer, checkpoint: Checkpoint) -> SnapshotStatus:
        """Say whether a layer has an index, or why it must be unpacked; see `_make`."""
        self.asked = True
        try:
            self._daemon.ensure()
            outcome = self._daemon.plan(layer, checkpoint)
        except SnapcoreError as error:
            checkpoint()
            return SnapshotStatus(reason=_why(error))
        if outcome.reason:
            return SnapshotStatus(reason=outcome.reason)
        return SnapshotStatus(lazy=True, format=outcome.format, complete=False)

    def supply(
        self, key: str, parent: str, labels: Labels, layer: Layer, checkpoint: Checkpoint
    ) -> str:
        """Commit a layer under the name in its labels without unpacking it.

        Returns:
            "" if it is there; else why it must be unpacked, and nothing is there.

        Raises:
            SnapcoreError: as `prepare`; AlreadyExists if somebody else was faster.
        """
        name = labels[label_keys.SNAPSHOT_REF]
        try:
            with self._disk.creating(Kind.ACTIVE, key, parent, labels) as draft:
                outcome = self._make(draft, layer, checkpoint)
        except _Unpack as reason:
            return str(reason)
        try:
            self._commit(name, key, labels, "", draft.id, outcome, checkpoint)
        except BaseException:
            self.remove(key, no_checkpoint)
            raise
        return ""

    def stage(self, key: str, labels: Labels, layer: Layer, checkpoint: Checkpoint) -> str:
        """Make an Active snapshot whose content is known, to be committed onto a parent.

        Returns:
            "" if it is there; else why the layer must be unpacked, and nothing is there.

        Raises:
            SnapcoreError: as `prepare`.
        """
        try:
            with self._disk.creating(Kind.ACTIVE, key, "", labels) as draft:
                # Its own hard links must do: what it finds below is seen when it is committed,
                # and then it is too late to unpack it.
                self._make(draft, layer, checkpoint, trial=True)
                make_root(os.path.join(draft.directory, _UPPER))
        except OSError as error:
            raise from_os_error(error, f"directories of snapshot {key!r}") from error
        except _Unpack as reason:
            return f"it cannot be made without its parent: {reason}"
        return ""

    def commit(
        self, name: str, key: str, labels: Labels, parent: str, checkpoint: Checkpoint
    ) -> Info:
        """Commit a staged snapshot.

        Raises:
            FailedPrecondition: over this parent, the layer must be unpacked.
            SnapcoreError: as `SnapshotterSpec.commit`.
        """
        plan = self._disk.records.check_commit(name, key, parent)
        below = self._lineage(parent) if parent else ()
        request = self._build(plan.id, self._disk.path(plan.id), below)
        # All that it takes is on disk: one that died since is as good as new.
        self._daemon.ensure()
        outcome = self._daemon.build(request, checkpoint)
        if outcome.reason:
            raise FailedPrecondition(
                f"snapshot {key!r} cannot be lazy over {parent!r}: {outcome.reason};"
                " remove it and unpack the layer"
            )
        try:
            return self._commit(name, key, labels, parent, plan.id, outcome, checkpoint)
        except BaseException:
            self._daemon.remove(plan.id)
            raise

    def remove(self, key: str, checkpoint: Checkpoint) -> Record:
        """Remove a snapshot of any kind; a lazy one is served no longer.

        Raises:
            SnapcoreError: as `DiskStore.remove`.
        """
        lazy = self.is_lazy(self._disk.records.get(key).id)
        record = self._disk.remove(key, checkpoint)
        if lazy:
            self._stop_serving(record.id)
        return record

    def note(self, key: str, reason: str) -> None:
        """Keep why a snapshot's layer is not lazy; only for show."""
        path = self._disk.path(self._disk.records.get(key).id, _REASON)
        with suppress(OSError), open(path, "w", encoding="utf-8", errors="replace") as file:
            file.write(reason[:_MAX_REASON])

    def status(self, key: str) -> SnapshotStatus:
        """Return how a snapshot's layer fares.

        Raises:
            NotFound: no such snapshot.
        """
        record = self._disk.records.get(key)
        if not self.is_lazy(record.id):
            return SnapshotStatus(reason=self._reason(record.id))
        try:
            state = self._daemon.status(record.id)
        except SnapcoreError as error:
            # That it is lazy is known without its daemon.
            return SnapshotStatus(lazy=True, complete=False, error=str(error))
        return SnapshotStatus(
            lazy=True,
            format=state.format,
            size=state.size,
            fetched=state.fetched,
            served=state.served,
            wasted=state.wasted,
            requests=state.requests,
            hits=state.hits,
            misses=state.misses,
            complete=state.complete,
            error=state.error,
        )

    def _make(
        self, draft: Draft, layer: Layer, checkpoint: Checkpoint, *, trial: bool = False
    ) -> Outcome:
        """Have a layer resolved and made, or say why it must be unpacked.

        Whatever goes wrong, unpacking is the way out, and says better what is wrong with a layer.
        """
        self.asked = True
        try:
            self._daemon.ensure()
            outcome = self._daemon.resolve(draft.directory, layer, checkpoint)
            if not outcome.reason:
                request = self._build(draft.id, draft.directory, draft.parents, trial=trial)
                outcome = self._daemon.build(request, checkpoint)
        except SnapcoreError as error:
            # It may have been the checkpoint's, which then raises again.
            checkpoint()
            raise _Unpack(_why(error)) from error
        if outcome.reason:
            raise _Unpack(outcome.reason)
        return outcome

    def _build(
        self, number: int, directory: str, parents: tuple[int, ...], *, trial: bool = False
    ) -> Build:
        below = self._layers.lowers(parents)
        return Build(number, directory, below, self._form.style.value, trial)

    def _commit(
        self,
        name: str,
        key: str,
        labels: Labels,
        parent: str,
        number: int,
        outcome: Outcome,
        checkpoint: Checkpoint,
    ) -> Info:
        # If the key is another snapshot's by now, recording refuses.
        plan = replace(self._disk.records.check_commit(name, key, parent), id=number)
        try:
            self._layers.mark_bottom(number, hides=outcome.hides)
        except OSError as error:
            raise from_os_error(error, f"snapshot {key!r}") from error
        usage = disk_usage(Files(self._disk.path(number)).lazy, checkpoint)
        return self._disk.records.commit(plan, labels, usage)

    def _lineage(self, name: str) -> tuple[int, ...]:
        stack = self._disk.records.stack(name, Kind.COMMITTED)
        return (stack.record.id, *stack.parents)

    def _reason(self, snapshot: int) -> str:
        try:
            with open(self._disk.path(snapshot, _REASON), encoding="utf-8") as file:
                return file.read(_MAX_REASON)
        except OSError:
            return ""

    def _stop_serving(self, snapshot: int) -> None:
        try:
            self._daemon.remove(snapshot)
        except SnapcoreError as error:
            # The daemon looks for itself what is still there, whenever it is greeted.
            _log.warning("snapshot %d is removed, and may be served still: %s", snapshot, error)
