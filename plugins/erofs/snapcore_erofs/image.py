"""Mounting an image with the files that it points into."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from snapcore.linux import MountFlag, loop_device, mount

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
    try:
        mount(image, target, "erofs", MountFlag.RDONLY, _options(devices))
    except OSError as error:
        if error.errno not in _NO_FILES:
            raise
    else:
        return True
    with ExitStack() as loops:
        block, *others = [loops.enter_context(loop_device(each)) for each in (image, *devices)]
        mount(block, target, "erofs", MountFlag.RDONLY, _options(others))
    return False


def _options(devices: Sequence[str]) -> str:
    return ",".join(f"device={each}" for each in devices)
