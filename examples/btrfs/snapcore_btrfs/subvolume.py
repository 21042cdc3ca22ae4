"""Btrfs subvolumes: the kernel's calls, typed; `errno` as OSError.

Numbers and structures are those of linux/btrfs.h and linux/btrfs_tree.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from snapcore.linux import syncfs

_SUBVOLUME_CREATE: Final = 0x5000940E
_SUBVOLUME_DESTROY: Final = 0x5000940F
_SNAPSHOT_CREATE: Final = 0x50009417
_GET_FLAGS: Final = 0x80089419
_SET_FLAGS: Final = 0x4008941A
_SUBVOLUME_INFO: Final = 0x81F8943C
_TREE_SEARCH: Final = 0xC0709411

_READ_ONLY: Final = 1 << 1
_ROOT_INODE: Final = 256
"""Number of every subvolume's top directory, and of nothing else on a filesystem."""
_INODE_ITEM: Final = 1
_LAST: Final = (1 << 64) - 1
_LAST_INODE: Final = _LAST - 256

_ARGUMENTS: Final = struct.Struct("=q4088s")
_SNAPSHOT: Final = struct.Struct("=q48x4040s")
_CREATED_IN: Final = struct.Struct("=352xQ144x")
_SEARCH: Final = struct.Struct("=7Q4L4QQ")
_HEADER: Final = struct.Struct("=QQQLL")
_INODE: Final = struct.Struct("=8xQ8xQ")
_BLOCK: Final = 512
_BUFFER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Changed:
    """What differs from the subvolume that this one was made from.

    Attributes:
        inodes: how many are new or were changed.
        size: bytes that they take.
    """

    inodes: int
    size: int


def create(path: str) -> None:
    """Make an empty subvolume.

    Raises:
        OSError: EEXIST; ENOTTY where this is no btrfs.
    """
    with _directory(os.path.dirname(path)) as above:
        fcntl.ioctl(above, _SUBVOLUME_CREATE, bytearray(_ARGUMENTS.pack(0, _name(path))))


def snapshot(source: str, path: str) -> None:
    """Make a writable subvolume with everything that is in another.

    Raises:
        OSError: EEXIST; EXDEV on another filesystem.
    """
    with _directory(source) as below, _directory(os.path.dirname(path)) as above:
        fcntl.ioctl(above, _SNAPSHOT_CREATE, bytearray(_SNAPSHOT.pack(below, _name(path))))


def seal(path: str) -> None:
    """Make a subvolume read-only for everybody, through whatever mount.

    Raises:
        OSError: it is none.
    """
    with _directory(path) as subvolume:
        flags = bytearray(8)
        fcntl.ioctl(subvolume, _GET_FLAGS, flags)
        (value,) = struct.unpack("=Q", flags)
        fcntl.ioctl(subvolume, _SET_FLAGS, struct.pack("=Q", value | _READ_ONLY))


def delete(path: str) -> None:
    """Delete a subvolume with everything in it; nothing happens if there is none.

    Raises:
        OSError: ENOTEMPTY if other subvolumes are inside.
    """
    try:
        if os.lstat(path).st_ino != _ROOT_INODE:
            return
        with _directory(os.path.dirname(path)) as above:
            fcntl.ioctl(above, _SUBVOLUME_DESTROY, bytearray(_ARGUMENTS.pack(0, _name(path))))
    except FileNotFoundError:
        return


def changed(path: str, *, everything: bool) -> Changed:
    """Count what was changed since a subvolume was made, or everything in it.

    Syncs the filesystem: before that, btrfs has not decided what files take.

    Raises:
        OSError: it is no subvolume.
    """
    with _directory(path) as subvolume:
        syncfs(subvolume)
        since = 0 if everything else _created_in(subvolume)
        sizes = [size for transaction, size in _inodes(subvolume, since) if transaction > since]
    # What is small lies in the inode; stat(2) counts a block for it.
    sizes = [-(-size // _BLOCK) * _BLOCK for size in sizes]
    return Changed(len(sizes), sum(sizes))


def _created_in(subvolume: int) -> int:
    """Return the transaction that made a subvolume: what it began with is of that or earlier."""
    buffer = bytearray(_CREATED_IN.size)
    fcntl.ioctl(subvolume, _SUBVOLUME_INFO, buffer)
    (transaction,) = _CREATED_IN.unpack(buffer)
    return int(transaction)


def _inodes(subvolume: int, since: int) -> Iterator[tuple[int, int]]:
    """Yield the last transaction and the bytes of each inode, most of the older left out."""
    first = 0
    while True:
        key = _SEARCH.pack(
            0, first, _LAST_INODE, 0, _LAST, since, _LAST, _INODE_ITEM, _INODE_ITEM,
            (1 << 32) - 1, 0, 0, 0, 0, 0, _BUFFER,
        )  # fmt: skip
        buffer = bytearray(key + bytes(_BUFFER))
        fcntl.ioctl(subvolume, _TREE_SEARCH, buffer)
        (found,) = struct.unpack_from("=L", buffer, 64)
        if not found:
            return
        place = _SEARCH.size
        for _ in range(found):
            _, first, _, kind, length = _HEADER.unpack_from(buffer, place)
            place += _HEADER.size
            if kind == _INODE_ITEM:
                transaction, size = _INODE.unpack_from(buffer, place)
                yield transaction, size
            place += length
        first += 1


@contextmanager
def _directory(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(path: str) -> bytes:
    return os.fsencode(os.path.basename(path))
