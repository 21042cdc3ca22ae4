"""Block devices over files (loop(4)), for what cannot be mounted as a file."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CONTROL: Final = "/dev/loop-control"
_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_READ_ONLY: Final = 1
_AUTOCLEAR: Final = 4
# struct loop_config: descriptor, block size, struct loop_info64 (its flags are the field after
# 52 bytes), reserved (linux/loop.h).
_CONFIG: Final = struct.Struct("=II52xI176x64x")
_TRIES: Final = 64


@contextmanager
def loop_device(path: str) -> Iterator[str]:
    """Make a read-only block device over a file, for the duration of a `with` block at least.

    What is mounted from it in the block keeps it; with the last user it is gone by itself.

    Args:
        path: of the file, whose length is a multiple of 512.

    Yields:
        The path of the device.

    Raises:
        OSError: there are no loop devices here, or they are not for us.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device, number = _attached(file)
    finally:
        os.close(file)
    try:
        yield f"/dev/loop{number}"
    finally:
        os.close(device)


def _attached(file: int) -> tuple[int, int]:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(file, 0, _READ_ONLY | _AUTOCLEAR))
            except OSError as error:
                os.close(device)
                # Somebody else was faster.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, number
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _CONTROL)
