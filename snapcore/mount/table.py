"""Reading `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the mount table.

    Attributes:
        id: the mount's number; reused after an unmount, so never a lasting name.
        target: where it is mounted.
        fstype: filesystem type.
        source: what is mounted.
        options: per-mount options.
        super_options: options of the filesystem.
    """

    id: int
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


def is_mount_point(path: str) -> bool:
    """Tell whether something is mounted at exactly this path."""
    real = os.path.realpath(path)
    return any(entry.target == real for entry in mount_table())


def _decode(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))
