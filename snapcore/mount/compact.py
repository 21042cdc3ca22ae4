"""Overlay mounts with more lower directories than one page of options can name in full.

mount(2) copies one page of options. Lower directories share a long beginning, so the thread
that mounts changes into their common directory and names them relative to it, as containerd
does (core/mount, compactLowerdirOption): whoever mounts our lists must do the same.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from snapcore.linux import MountFlag, Namespace, unshare
from snapcore.linux import mount as sys_mount
from snapcore.mount.overlay import join_lowers, split_lowers

_PREFIX: Final = "lowerdir="


def compact_lowers(data: str) -> tuple[str, str] | None:
    """Shorten the lower directories among overlay options.

    Args:
        data: comma-separated options of an overlay mount.

    Returns:
        The directory to mount from and the shorter options; None if nothing can be shortened.
    """
    options = data.split(",")
    for number, option in enumerate(options):
        if option.startswith(_PREFIX):
            lowers = split_lowers(option.removeprefix(_PREFIX))
            if not all(lower.startswith("/") for lower in lowers):
                return None
            base = os.path.commonpath([os.path.dirname(lower) for lower in lowers])
            if base == "/":
                return None
            short = [os.path.relpath(lower, base) for lower in lowers]
            options[number] = _PREFIX + join_lowers(short)
            return base, ",".join(options)
    return None


def mount_from(
    directory: str, source: str, target: str, fstype: str, flags: MountFlag, data: str
) -> None:
    """Mount in a thread of its own whose working directory is `directory`.

    Args:
        directory: what relative names in `data` are relative to.
        source: as for mount(2).
        target: absolute path.
        fstype: as for mount(2).
        flags: as for mount(2).
        data: as for mount(2).

    Raises:
        OSError: the kernel refused.
    """
    failures: list[OSError] = []

    def run() -> None:
        try:
            unshare(Namespace.FS)
            os.chdir(directory)
            sys_mount(source, target, fstype, flags, data)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
