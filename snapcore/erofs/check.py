"""Going over a whole image: that it says of itself only what is so."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from snapcore.erofs.inode import Inode
from snapcore.erofs.layout import FILE_TYPES, MAX_NAME
from snapcore.erofs.reader import Image
from snapcore.errors import DataLoss

_DOTS: Final = (b".", b"..")


@dataclass(frozen=True, slots=True)
class Checked:
    """What an image has.

    Attributes:
        inodes: how many.
        directories: of these.
        size: bytes of all files.
    """

    inodes: int
    directories: int
    size: int


def check_image(image: Image, devices: Sequence[int] | None = None) -> Checked:
    """Check that every inode is sound, reached as often as it says, and inside of its devices.

    Args:
        image: the image.
        devices: the bytes that each device really has; None for those that the image says.

    Raises:
        DataLoss: something is not so; the first thing found is named.
    """
    sizes = image.devices if devices is None else tuple(devices)
    if len(sizes) != len(image.devices):
        raise DataLoss(f"the image has {len(image.devices)} devices, not {len(sizes)}")
    names: Counter[int] = Counter({image.root.number: 1})
    links: dict[int, int] = {}
    total = directories = 0
    pending = [(image.root, image.root.number)]
    while pending:
        directory, parent = pending.pop()
        directories += 1
        below = 0
        for name, number, kind in _entries(image, directory, parent):
            names[number] += 1
            child = image.inode(number)
            if FILE_TYPES[stat.S_IFMT(child.mode)] != kind:
                raise DataLoss(f"{name!r} in directory {directory.number} is of another type")
            if stat.S_ISDIR(child.mode):
                if names[number] > 1:
                    raise DataLoss(f"directory {number} has several names")
                below += 1
                pending.append((child, directory.number))
            elif number not in links:
                links[number] = child.links
                total += _check_leaf(image, child, sizes)
        image.xattrs(directory)
        if directory.links != 2 + below:
            raise DataLoss(f"directory {directory.number} says that it has {directory.links} names")
    for number, count in links.items():
        if names[number] != count:
            raise DataLoss(f"inode {number} has {names[number]} names, and says {count}")
    if len(names) != image.super_block.inodes:
        raise DataLoss(f"{len(names)} inodes are reached, of {image.super_block.inodes}")
    return Checked(len(names), directories, total)


def _entries(image: Image, directory: Inode, parent: int) -> list[tuple[bytes, int, int]]:
    """Return a directory's entries but for its own name and its parent's, which are checked."""
    found = list(image.children(directory))
    names = [name for name, _, _ in found]
    if any(one >= other for one, other in pairwise(names)):
        raise DataLoss(f"the names of directory {directory.number} are out of order")
    wrong = [n for n in names if len(n) > MAX_NAME or b"/" in n or b"\0" in n]
    if wrong:
        raise DataLoss(f"directory {directory.number} has a name {wrong[0][:64]!r}")
    dots = {name: number for name, number, _ in found if name in _DOTS}
    if dots != {b".": directory.number, b"..": parent}:
        raise DataLoss(f"directory {directory.number} has dots that lead elsewhere")
    return [entry for entry in found if entry[0] not in _DOTS]


def _check_leaf(image: Image, leaf: Inode, sizes: Sequence[int]) -> int:
    """Check what is no directory; return the bytes of a file."""
    image.xattrs(leaf)
    if stat.S_ISLNK(leaf.mode):
        image.target(leaf)
        return 0
    if not stat.S_ISREG(leaf.mode):
        return 0
    for extent in image.extents(leaf):
        if extent.device and extent.offset + extent.size > sizes[extent.device - 1]:
            raise DataLoss(f"file {leaf.number} has bytes past the end of device {extent.device}")
    return leaf.size
