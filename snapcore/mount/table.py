"""Reading `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from snapcore.mount.overlay import split_lowers

_LAYERS: Final = ("lowerdir", "lowerdir+", "upperdir")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the mount table.

    Attributes:
        id: the mount's number; reused after an unmount, so never a lasting name.
        device: number of the filesystem's device, `major:minor`.
        root: which directory of the filesystem is mounted.
        target: where it is mounted.
        fstype: filesystem type.
        source: what is mounted.
        options: per-mount options.
        super_options: options of the filesystem.
    """

    id: int
    device: str
    root: str
    target: str
    fstype: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]


def mount_table(path: str = "/proc/self/mountinfo") -> Iterator[MountEntry]:
    """Yield the mounts of this process's mount namespace, oldest first."""
    with open(path, "rb") as table:
        for line in table:
            left, _, right = line.rstrip(b"\n").partition(b" - ")
            fields, tail = left.split(b" "), right.split(b" ")
            yield MountEntry(
                id=int(fields[0]),
                device=fields[2].decode(),
                root=_decode(fields[3]),
                target=_decode(fields[4]),
                fstype=_decode(tail[0]),
                source=_decode(tail[1]),
                options=tuple(_decode(fields[5]).split(",")),
                super_options=tuple(_decode(tail[2]).split(",")),
            )


def mounts_below(directory: str) -> tuple[MountEntry, ...]:
    """Return the mounts at or below a directory, the newest first: the order to unmount in."""
    top = os.path.realpath(directory)
    found = [
        entry
        for entry in mount_table()
        if entry.target == top or entry.target.startswith(top.rstrip("/") + "/")
    ]
    return tuple(reversed(found))


def mounts_showing(directory: str) -> tuple[MountEntry, ...]:
    """Return the mounts of this mount namespace that show what is in a directory elsewhere.

    Those are bind mounts of it or of something in it, and overlays it is a layer of. A layer
    that was named relative to a directory which nobody knows any more counts if it may be it.

    Raises:
        OSError: there is no such directory.
    """
    place = os.path.realpath(directory)
    device = os.stat(place).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tuple(mount_table())
    below = [entry for entry in table if entry.device == number and _is_in(place, entry.target)]
    # The longest is the one that it lies in; of several at one place the last one shows.
    holder = max(below, key=lambda entry: (len(entry.target), entry.id), default=None)
    inside = ""
    if holder is not None:
        inside = os.path.normpath(os.path.join(holder.root, os.path.relpath(place, holder.target)))
    return tuple(
        entry
        for entry in table
        if (inside and entry.device == number and _is_in(entry.root, inside))
        or (entry.fstype == "overlay" and _has_layer(entry, place))
    )


def mounts_using(directory: str) -> tuple[MountEntry, ...]:
    """Return the mounts of this mount namespace that a directory is for, the oldest first.

    Those are the ones at or below it, bind mounts of something in it, and overlays with a layer
    in it; but for layers that were named relative to a directory which nobody knows any more.

    Raises:
        OSError: there is no such directory.
    """
    place = os.path.realpath(directory)
    found = {entry.id for entry in mounts_showing(place)}
    return tuple(
        entry
        for entry in mount_table()
        if entry.id in found
        or _is_in(entry.target, place)
        or (entry.fstype == "overlay" and any(_is_in(layer, place) for layer in _layers(entry)))
    )


def is_mount_point(path: str) -> bool:
    """Tell whether something is mounted at exactly this path."""
    real = os.path.realpath(path)
    return any(entry.target == real for entry in mount_table())


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _has_layer(entry: MountEntry, place: str) -> bool:
    return any(
        layer == place or (not layer.startswith("/") and place.endswith(f"/{layer}"))
        for layer in _layers(entry)
    )


def _layers(entry: MountEntry) -> Iterator[str]:
    for option in entry.super_options:
        name, _, value = option.partition("=")
        if name in _LAYERS:
            yield from split_lowers(value)


def _decode(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))
