"""Opening the place where a layer is applied, as descriptors that a worker can be handed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from snapcore.archive import Destination
from snapcore.errors import FailedPrecondition, PermissionDenied
from snapcore.linux import MountAttr
from snapcore.mount import Mount, join_lowers, make_overlay, temporary_mount
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import LayerTarget, Mounts

# What an overlay of trusted layers must not do: follow redirects, or lazy metadata copies.
_SAFE: Final = ("redirect_dir=nofollow", "metacopy=off", "index=off")


@contextmanager
def open_destination(target: LayerTarget, state: str, *, base: bool) -> Iterator[Destination]:
    """Open a layer target for the duration of a `with` block.

    Mounts that the target needs are made at a private directory and undone at the end; the
    layers below an overlay's upper directory are merged by the kernel into one read-only view.

    Args:
        target: what the snapshotter's `target` answered.
        state: private directory of this process for mount points.
        base: nothing is below this layer.

    Yields:
        Open descriptors, valid inside the block.

    Raises:
        PermissionDenied: this process may not mount.
        FailedPrecondition: the directory is not there, or the kernel refuses the mount.
    """
    with ExitStack() as stack:
        directory = target.directory
        if target.mounts:
            # A commit is made durable by a flush, which syncs the filesystem below.
            directory = stack.enter_context(temporary_mount(target.mounts, state, volatile=True))
        writable = _open(directory)
        stack.callback(os.close, writable)
        lower = None
        if target.lowers:
            lower = _open_lower(target.lowers, target.whiteouts, state)
            stack.callback(os.close, lower)
        yield Destination(writable, lower, target.whiteouts, base)


@contextmanager
def open_view(mounts: Mounts, state: str) -> Iterator[int]:
    """Mount a View at a private directory and open its root, for the duration of a `with` block.

    Args:
        mounts: what `view` gave.
        state: as for `open_destination`.

    Yields:
        An open descriptor.

    Raises:
        PermissionDenied, FailedPrecondition: as `open_destination`.
    """
    with temporary_mount(mounts, state) as directory:
        root = _open(directory)
        try:
            yield root
        finally:
            os.close(root)


def _open(directory: str, place: int | None = None) -> int:
    try:
        return os.open(
            directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=place
        )
    except OSError as error:
        raise FailedPrecondition(
            f"cannot open layer directory {directory!r}: {error.strerror}"
        ) from error


def _open_lower(lowers: Sequence[str], style: WhiteoutStyle, state: str) -> int:
    if len(lowers) == 1:
        return _open(lowers[0])
    user = ("userxattr",) if style is WhiteoutStyle.OVERLAY_USER else ()
    try:
        # Mounted nowhere: the mount ends with the descriptor, even after a crash.
        mounted = make_overlay(lowers, (*_SAFE, *user), MountAttr.RDONLY)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionDenied(
                f"cannot mount the {len(lowers)} layers below: {error.strerror}"
                " (needs root or a user namespace)"
            ) from error
    else:
        try:
            return _open(".", mounted)
        finally:
            os.close(mounted)
    # Linux before 6.8 has no `lowerdir+`; opened, the mount outlives its mount point.
    options = ("ro", f"lowerdir={join_lowers(lowers)}", *_SAFE, *user)
    with temporary_mount([Mount("overlay", "overlay", options=options)], state) as point:
        return _open(point)
