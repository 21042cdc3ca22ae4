"""Mounting images, and remembering it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snapcore import labels
from snapcore.errors import AlreadyExists, FailedPrecondition, NotFound
from snapcore.metadata import MountRecord, MountStore
from snapcore.mount import is_mount_point, mount_all, temporary_mount, unmount
from snapcore.node.holding import LeasedWork
from snapcore.snapshots import Mounts, Snapshotter
from snapcore.unpack import is_intact, reclaim


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What to mount.

    Attributes:
        image: the image's name, for the record.
        chain_id: the snapshot, "" for the empty root of an image without layers.
        snapshotter: who has it.
        rw: mount a writable snapshot of its own instead of a view.
    """

    image: str
    chain_id: str
    snapshotter: Snapshotter
    rw: bool


class Mounter:
    """Mounts images of one node and keeps the records that protect them from collection.

    Args:
        records: what is mounted.
        state: the process's private directory, for mount points of a moment.
    """

    def __init__(self, records: MountStore, state: str) -> None:
        self._records = records
        self._state = state

    def mount(self, request: MountRequest, target: str, work: LeasedWork) -> MountRecord:
        """Mount an image at a directory.

        Args:
            request: what to mount.
            target: where.
            work: holds the snapshots until the mount is recorded.

        Raises:
            NotFound: the directory does not exist.
            AlreadyExists: something is mounted there by this node.
            FailedPrecondition: the image is not unpacked for this snapshotter.
            PermissionDenied: this process may not mount.
        """
        place = os.path.realpath(target)
        if not os.path.isdir(place):
            raise NotFound(f"mount point {target!r} is not a directory; create it first")
        if is_mount_point(place):
            raise AlreadyExists(f"something is mounted at {target!r} already")
        # What was written shall outlive the mount; a view is kept by the mount's record.
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        given = {labels.GC_ROOT: stamp} if request.rw else {}
        key, mounts = _snapshot(request, work, given)
        try:
            record = self._records.put(
                place, request.image, request.snapshotter.name, key, rw=request.rw
            )
            try:
                mount_all(mounts, place, self._state)
            except BaseException:
                self._records.delete(place)
                raise
        except BaseException:
            request.snapshotter.remove(key)
            raise
        return record

    def unmount(self, target: str) -> MountRecord:
        """Unmount what `mount` mounted; the caller removes the snapshot that the record names.

        Raises:
            NotFound: this node has mounted nothing there.
            FailedPrecondition: the mount is in use.
        """
        place = os.path.realpath(target)
        record = self._records.get(place)
        if is_mount_point(place):
            unmount(place)
        self._records.delete(place)
        return record

    def list(self) -> tuple[MountRecord, ...]:
        """Return what is recorded as mounted."""
        return tuple(self._records.list())

    def forget_gone(self) -> tuple[MountRecord, ...]:
        """Forget the mounts that are seen to be gone, and return their records.

        A mount is gone with its boot, or when nothing is mounted there any more in the mount
        namespace that made it. What another namespace has mounted cannot be seen, and stays.
        """
        here = self._records.place
        gone = [
            record
            for record in self._records.list()
            if record.place.boot != here.boot
            or (record.place == here and not is_mount_point(record.target))
        ]
        for record in gone:
            self._records.forget(record)
        return tuple(gone)


@contextmanager
def mounted(request: MountRequest, state: str, work: LeasedWork) -> Iterator[str]:
    """Mount an image at a private directory for the duration of a `with` block.

    Args:
        request: what to mount.
        state: the process's private directory.
        work: holds the snapshot meanwhile.

    Yields:
        The root directory.

    Raises:
        FailedPrecondition: the image is not unpacked for this snapshotter.
        PermissionDenied: this process may not mount.
    """
    key, mounts = _snapshot(request, work, {})
    try:
        with temporary_mount(mounts, state, volatile=True) as directory:
            yield directory
    finally:
        request.snapshotter.remove(key)
        reclaim(request.snapshotter)


def _snapshot(request: MountRequest, work: LeasedWork, given: dict[str, str]) -> tuple[str, Mounts]:
    snapshotter = request.snapshotter
    key = f"mount-{uuid.uuid4().hex}"
    work.snapshots(snapshotter.name, filter(None, (key, request.chain_id)))
    if request.chain_id and not is_intact(snapshotter, request.chain_id):
        raise FailedPrecondition(
            f"image {request.image!r} is not unpacked for snapshotter {snapshotter.name!r};"
            f" run: snapcore images unpack --snapshotter {snapshotter.name} {request.image}"
        )
    make = snapshotter.prepare if request.rw else snapshotter.view
    return key, make(key, request.chain_id, labels=given)
