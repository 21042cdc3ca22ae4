"""How EROFS lies on disk: structures, numbers and limits, little endian.

Source: kernel, fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. What is not here, such
as compression, 48-bit addresses and fragments, we neither write nor read.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Final, NamedTuple

MAGIC: Final = 0xE0F5E1E2
SUPER_OFFSET: Final = 1024
SUPER: Final = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
"""See `SuperBlock`."""
DEVICE: Final = struct.Struct("<64sII56x")
"""Tag, blocks, and the address that it is mapped to in one flat space, of which we make no use."""
INODE: Final = struct.Struct("<HHHHQIIIIqIIQQ")
"""An extended inode; see `RawInode`."""
DIRENT: Final = struct.Struct("<QHBB")
"""Number of the inode, offset of the name in its block, type, and nothing."""
CHUNK: Final = struct.Struct("<HHI")
"""Nothing, device, and block."""
XATTR_HEADER: Final = struct.Struct("<IB7x")
"""A filter of names, which we do not use, and how many shared xattrs follow."""
XATTR_ENTRY: Final = struct.Struct("<BBH")
"""Bytes of the name behind its prefix, number of the prefix, bytes of the value."""
SHARED: Final = struct.Struct("<I")

SLOT: Final = 32
"""Inodes begin at multiples of this, and are numbered by them."""
HOLE: Final = 0xFFFFFFFF
"""In place of a block, where there is none."""
NO_FILTER: Final = 0xFFFFFFFF

COMPAT_CHECKSUM: Final = 0x1
COMPAT_MTIME: Final = 0x2
INCOMPAT_CHUNKED: Final = 0x4
INCOMPAT_DEVICES: Final = 0x8

PLAIN: Final = 0
"""Data layout: whole blocks."""
INLINE: Final = 2
"""Data layout: whole blocks, and the rest right behind the inode, within one block."""
CHUNKED: Final = 4
"""Data layout: pieces of one size, each at an address of its own."""
EXTENDED: Final = 1
CHUNK_BITS: Final = 0x1F
CHUNK_INDEXES: Final = 0x20
"""Each piece has a `CHUNK`, with a device, and not a block number alone."""

XATTR_PREFIXES: Final[tuple[tuple[bytes, int], ...]] = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
FILE_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
MAX_NAME: Final = 255
MAX_XATTR_VALUE: Final = 0xFFFF
MAX_XATTR_WORDS: Final = 0xFFFF
MAX_SHARED: Final = 0xFF
MAX_TARGET: Final = 4095
"""Bytes of a symlink's target that the kernel follows (PATH_MAX with its NUL)."""
BLOCK_BITS: Final = (9, 10, 11, 12)
"""Sizes of a block that kernels with pages of 4 KiB can mount."""


class SuperBlock(NamedTuple):
    """The superblock, in its order."""

    magic: int
    checksum: int
    compat: int
    block_bits: int
    extra_slots: int
    root: int
    inodes: int
    build_time: int
    build_time_nsec: int
    blocks: int
    meta_block: int
    xattr_block: int
    uuid: bytes
    volume: bytes
    incompat: int
    algorithms: int
    devices: int
    device_slot: int
    directory_bits: int
    prefixes: int
    prefix_start: int
    packed: int
    xattr_filter: int


class RawInode(NamedTuple):
    """An inode, in its order; `data` is a block, a device's number, or the format of chunks."""

    format: int
    xattr_words: int
    mode: int
    reserved: int
    size: int
    data: int
    number: int
    uid: int
    gid: int
    mtime: int
    nanoseconds: int
    links: int
    reserved_2: int
    reserved_3: int


def xattr_words(size: int) -> int:
    """Return how an inode says that its xattrs take `size` bytes."""
    return (size - XATTR_HEADER.size) // 4 + 1 if size else 0


def xattr_size(words: int) -> int:
    """Return how many bytes the xattrs of an inode take that says `words`."""
    return XATTR_HEADER.size + (words - 1) * 4 if words else 0


def aligned(position: int, unit: int) -> int:
    """Return the first multiple of a unit, which is a power of two, from a position on."""
    return (position + unit - 1) & -unit


def encode_device(number: int) -> int:
    """Return a device's number as it lies on disk (kernel, new_encode_dev)."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def decode_device(encoded: int) -> tuple[int, int]:
    """Return major and minor number of a device (kernel, new_decode_dev)."""
    return (encoded & 0xFFF00) >> 8, (encoded & 0xFF) | (encoded >> 12 & 0xFFF00)


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum of a superblock's block, without the final inversion."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value


def _crc_table() -> tuple[int, ...]:
    polynomial = 0x82F63B78
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def checked_bytes(block_size: int) -> int:
    """Return how many bytes from the superblock on are under its checksum."""
    return block_size - SUPER_OFFSET if block_size > SUPER_OFFSET else block_size
