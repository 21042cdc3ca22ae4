"""Overlay mounts through the mount API by descriptors, where lower directories come one by one.

So 500 of them fit (OVL_MAX_STACK), however long their names are, where mount(2) takes one page
of options. Kernels before Linux 6.8 do not know `lowerdir+`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from snapcore.linux import (
    MountAttr,
    fs_messages,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    move_mount,
)

MAX_LOWERS: Final = 500
"""Most lower directories that the kernel takes (fs/overlayfs/params.h)."""
_LOWER: Final = re.compile(r"(?:[^:\\]|\\.)+", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def split_lowers(value: str) -> tuple[str, ...]:
    """Return the directories that a `lowerdir=` names, without its backslashes."""
    return tuple(_ESCAPED.sub(r"\1", each) for each in _LOWER.findall(value))


def join_lowers(lowers: Sequence[str]) -> str:
    """Return what `split_lowers` splits."""
    return ":".join(re.sub(r"([\\:])", r"\\\1", lower) for lower in lowers)


def takes_lowers_one_by_one(lowers: Sequence[str], options: Sequence[str]) -> bool:
    """Tell whether this kernel lets this process name these lower directories one by one.

    It is really tried: kernels before Linux 6.5 take any option of an overlay at first, and a
    name of more than 255 bytes is taken by none (fsconfig(2)).
    """
    try:
        os.close(make_overlay(lowers, options, MountAttr.RDONLY))
    except OSError:
        return False
    return True


def make_overlay(lowers: Sequence[str], options: Sequence[str], attributes: MountAttr) -> int:
    """Make an overlay that is mounted nowhere; it ends with its descriptor.

    Args:
        lowers: the lower directories, the nearest first.
        options: all other options of the filesystem.
        attributes: of the mount.

    Returns:
        The mount's descriptor.

    Raises:
        OSError: the kernel refused, or lacks the calls; with its own words, where it has any.
    """
    context = fsopen("overlay")
    try:
        fsconfig_string(context, "source", "overlay")
        for lower in lowers:
            fsconfig_string(context, "lowerdir+", lower)
        for option in options:
            name, equals, value = option.partition("=")
            if equals:
                fsconfig_string(context, name, _without_quotes(value))
            else:
                fsconfig_flag(context, name)
        if attributes & MountAttr.RDONLY:
            fsconfig_flag(context, "ro")
        fsconfig_create(context)
        return fsmount(context, attributes)
    except OSError as error:
        said = "; ".join(fs_messages(context))
        raise OSError(
            error.errno, f"{error.strerror} ({said})" if said else error.strerror
        ) from error
    finally:
        os.close(context)


def mount_overlay(
    lowers: Sequence[str], options: Sequence[str], attributes: MountAttr, target: str
) -> None:
    """Mount an overlay at a path; see `make_overlay`."""
    mounted = make_overlay(lowers, options, attributes)
    try:
        move_mount(mounted, target)
    finally:
        os.close(mounted)


def _without_quotes(value: str) -> str:
    # They keep a comma in a list of options, of which there is none here.
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
