"""Mounting an image with the files that it points into."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from snapcore.linux import (
    MountAttr,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    loop_device,
    move_mount,
)

_NO_FILES: Final = (errno.ENOTBLK, errno.EOPNOTSUPP)


def mount_image(image: str, devices: Sequence[str], target: str) -> bool:
    """Mount an image read-only; say whether as plain files.

    Kernels before 6.12 mount block devices alone, and no kernel files of tmpfs or overlayfs: there
    each file gets a loop device, which is gone with the mount.

    Args:
        image: path of the image.
        devices: paths of the files that it points into, in its order.
        target: where to.

    Raises:
        OSError: neither is possible.
    """
    with ExitStack() as files:
        paths = [files.enter_context(_short(path)) for path in (image, *devices)]
        try:
            _mount(paths, target)
        except OSError as error:
            if error.errno not in _NO_FILES:
                raise
        else:
            return True
    with ExitStack() as loops:
        _mount([loops.enter_context(loop_device(each)) for each in (image, *devices)], target)
    return False


@contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield a path of a file that is short, as fsconfig(2) wants it: 255 bytes at most."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _mount(paths: Sequence[str], target: str) -> None:
    """Mount by the new mount API: one page of options would hold some 70 devices."""
    source, *devices = paths
    context = fsopen("erofs")
    try:
        fsconfig_string(context, "source", source)
        for device in devices:
            fsconfig_string(context, "device", device)
        fsconfig_flag(context, "ro")
        fsconfig_create(context)
        mounted = fsmount(context, MountAttr.RDONLY)
    finally:
        os.close(context)
    try:
        move_mount(mounted, target)
    finally:
        os.close(mounted)
