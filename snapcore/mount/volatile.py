"""Overlays that do not write out what they hold: `volatile` (Linux 5.10).

For mounts of ours that nobody else sees and that end before anything is promised: unmounting a
plain overlay writes out the whole filesystem below it. The kernel marks the work directory of a
volatile overlay and does not mount it again while the mark is there, since it cannot know
whether all was written before a crash. Who ends such a mount in good order knows, and takes the
mark away. Source: kernel, Documentation/filesystems/overlayfs.rst, "Volatile mount".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from snapcore.errors import from_os_error
from snapcore.mount.value import Mount

_VOLATILE: Final = "volatile"
_MARK: Final = ("work/incompat/volatile/dirty", "work/incompat/volatile", "work/incompat")
"""Names below the work directory, in the order to remove them (fs/overlayfs/super.c)."""


def made_volatile(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """Return a list of mounts whose overlays with an upper directory are volatile."""
    return tuple(
        replace(item, options=(*item.options, _VOLATILE)) if _writes_out(item) else item
        for item in mounts
    )


def take_mark_away(mounts: Sequence[Mount]) -> None:
    """Have overlays that were volatile, and are unmounted, be mounted again.

    Raises:
        SnapcoreError: a mark cannot be removed.
    """
    for item in mounts:
        work = item.option("workdir")
        if work is not None and _VOLATILE in item.options:
            try:
                _remove_mark(work)
            except OSError as error:
                raise from_os_error(error, f"mark of a volatile overlay in {work!r}") from error


def _remove_mark(work: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(work, _MARK[0]))
        for name in _MARK[1:]:
            os.rmdir(os.path.join(work, name))


def _writes_out(item: Mount) -> bool:
    return (
        item.type == "overlay"
        and item.option("upperdir") is not None
        and not item.read_only
        and _VOLATILE not in item.options
    )
