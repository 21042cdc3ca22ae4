"""Opening the place where a layer is applied, as descriptors that a worker can be handed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from snapcore.archive import Destination
from snapcore.errors import FailedPrecondition, PermissionDenied
from snapcore.linux import (
    MountAttr,
    UnmountFlag,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    umount,
)
from snapcore.mount import Mount, mount_all, temporary_mount
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import LayerTarget

# What an overlay of trusted layers must not do: follow redirects, or lazy metadata copies.
_SAFE = {"redirect_dir": "nofollow", "metacopy": "off", "index": "off"}


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
            directory = stack.enter_context(temporary_mount(target.mounts, state))
        writable = _open(directory)
        stack.callback(os.close, writable)
        lower = None
        if target.lowers:
            lower = _open_lower(target.lowers, target.whiteouts, state)
            stack.callback(os.close, lower)
        yield Destination(writable, lower, target.whiteouts, base)


def _open(directory: str) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot open layer directory {directory!r}: {error.strerror}"
        ) from error


def _open_lower(lowers: Sequence[str], style: WhiteoutStyle, state: str) -> int:
    if len(lowers) == 1:
        return _open(lowers[0])
    try:
        return _detached_overlay(lowers, style)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionDenied(
                f"cannot mount the {len(lowers)} layers below: {error.strerror}"
                " (needs root or a user namespace)"
            ) from error
    # Linux before 6.8 has no `lowerdir+`.
    return _hidden_overlay(lowers, style, state)


def _detached_overlay(lowers: Sequence[str], style: WhiteoutStyle) -> int:
    """Mount the lowers nowhere: the mount ends with the descriptor, even after a crash."""
    context = fsopen("overlay")
    try:
        for lower in lowers:
            fsconfig_string(context, "lowerdir+", lower)
        for key, value in _SAFE.items():
            fsconfig_string(context, key, value)
        if style is WhiteoutStyle.OVERLAY_USER:
            fsconfig_flag(context, "userxattr")
        fsconfig_create(context)
        mounted = fsmount(context, MountAttr.RDONLY)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


def _hidden_overlay(lowers: Sequence[str], style: WhiteoutStyle, state: str) -> int:
    """Mount the lowers by mount(2), open them and take the mount point away again."""
    options = ["ro", f"lowerdir={':'.join(lowers)}"]
    options += [f"{key}={value}" for key, value in _SAFE.items()]
    if style is WhiteoutStyle.OVERLAY_USER:
        options.append("userxattr")
    point = tempfile.mkdtemp(prefix="lower-", dir=state)
    try:
        mount_all([Mount("overlay", "overlay", options=tuple(options))], point)
        try:
            return _open(point)
        finally:
            umount(point, UnmountFlag.DETACH)
    finally:
        os.rmdir(point)
