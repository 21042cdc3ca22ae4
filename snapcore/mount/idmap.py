"""Idmapped mounts: containerd's options `uidmap=` and `gidmap=`, carried out by the kernel.

The value is `inside:outside:count[,…]`: what a layer's file calls `inside` is shown as `outside`.
On an overlay only the lower directories are mapped: one mapped clone of their common directory
is made, named by the overlay and taken away again, as containerd does (core/mount).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

from snapcore.errors import InvalidArgument
from snapcore.linux import (
    MountAttr,
    UnmountFlag,
    mount_setattr,
    move_mount,
    open_tree,
    umount,
    user_namespace,
)
from snapcore.mount.value import Mount

_LAST_ID: Final = 2**32 - 2
_UID: Final = "uidmap="
_GID: Final = "gidmap="


@dataclass(frozen=True, slots=True)
class IdMap:
    """One map of ids.

    Attributes:
        ranges: (first inside, first outside, count), in the order given.
    """

    ranges: tuple[tuple[int, int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `inside:outside:count[,inside:outside:count]`.

        Raises:
            InvalidArgument: it is malformed.
        """
        ranges: list[tuple[int, int, int]] = []
        for each in text.split(","):
            numbers = each.split(":")
            if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
                raise InvalidArgument(f"bad id map {text[:100]!r} (want inside:outside:count)")
            inside, outside, count = map(int, numbers)
            if not count or max(inside, outside) + count - 1 > _LAST_ID:
                raise InvalidArgument(f"id map {text[:100]!r} names ids that do not exist")
            ranges.append((inside, outside, count))
        return cls(tuple(ranges))

    def outside(self, number: int) -> int:
        """Return what an id is shown as.

        Raises:
            InvalidArgument: the map does not hold it.
        """
        for inside, outside, count in self.ranges:
            if inside <= number < inside + count:
                return outside + number - inside
        raise InvalidArgument(f"id {number} is not in the id map {self}")

    def lines(self) -> str:
        """Return the map as /proc/PID/uid_map takes it."""
        return "".join(f"{a} {b} {count}\n" for a, b, count in self.ranges)

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}:{count}" for a, b, count in self.ranges)


@dataclass(frozen=True, slots=True)
class IdMapping:
    """The maps of user and of group ids, which go together.

    Attributes:
        uids: for owners.
        gids: for groups.
    """

    uids: IdMap
    gids: IdMap

    @property
    def options(self) -> tuple[str, str]:
        """The mount options that ask for it."""
        return f"{_UID}{self.uids}", f"{_GID}{self.gids}"


def take_mapping(item: Mount) -> tuple[Mount, IdMapping | None]:
    """Split a mount into itself without the mapping, and the mapping.

    Raises:
        InvalidArgument: a map is malformed, or one stands without the other.
    """
    uids, gids = item.option("uidmap"), item.option("gidmap")
    if uids is None and gids is None:
        return item, None
    if uids is None or gids is None:
        raise InvalidArgument(f"{item.type} mount: uidmap and gidmap go together; give both")
    rest = tuple(o for o in item.options if not o.startswith((_UID, _GID)))
    return replace(item, options=rest), IdMapping(IdMap.parse(uids), IdMap.parse(gids))


def bind_mapped(
    source: str, target: str, attributes: MountAttr, mapping: IdMapping, *, recursive: bool
) -> None:
    """Bind `source` at `target` with its ids mapped.

    Raises:
        OSError: the kernel, or the filesystem of `source`, cannot.
    """
    clone = _clone(source, attributes, mapping, recursive=recursive)
    try:
        move_mount(clone, target)
    finally:
        os.close(clone)


@contextmanager
def mapped_lowers(
    lowers: Sequence[str], mapping: IdMapping, state: str | None
) -> Iterator[tuple[str, ...]]:
    """Show directories with their ids mapped, for the duration of a `with` block.

    Args:
        lowers: absolute paths.
        mapping: the maps.
        state: directory for a mount point; the system's temporary directory if None.

    Yields:
        Where to find each; an overlay that was mounted on them keeps them.

    Raises:
        OSError: the kernel, or their filesystem, cannot.
    """
    base = os.path.commonpath([os.path.dirname(lower) for lower in lowers])
    point = tempfile.mkdtemp(prefix="snapcore-idmap-", dir=state)
    try:
        bind_mapped(base, point, MountAttr.RDONLY, mapping, recursive=False)
        try:
            yield tuple(os.path.join(point, os.path.relpath(lower, base)) for lower in lowers)
        finally:
            umount(point, UnmountFlag.DETACH)
    finally:
        os.rmdir(point)


def _clone(source: str, attributes: MountAttr, mapping: IdMapping, *, recursive: bool) -> int:
    with user_namespace(mapping.uids.lines(), mapping.gids.lines()) as namespace:
        clone = open_tree(source, recursive=recursive)
        try:
            mount_setattr(
                clone,
                attributes | MountAttr.IDMAP,
                user_namespace=namespace,
                recursive=recursive,
            )
        except OSError:
            os.close(clone)
            raise
    return clone
