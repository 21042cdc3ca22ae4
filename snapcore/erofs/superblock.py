"""What an image says of itself, and of the files that it points into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapcore.erofs.layout import (
    COMPAT_CHECKSUM,
    COMPAT_MTIME,
    DEVICE,
    INCOMPAT_CHUNKED,
    INCOMPAT_DEVICES,
    MAGIC,
    SLOT,
    SUPER,
    SUPER_OFFSET,
    SuperBlock,
)
from snapcore.erofs.types import ImageOptions
from snapcore.errors import InvalidArgument, ResourceExhausted

MAX_BLOCK: Final = 0xFFFFFFFE
"""Of an image, or of a file that it points into."""

# The root comes behind them, and its number has 16 bits.
_MAX_DEVICES: Final = (0xFFFF * SLOT - SUPER_OFFSET - SUPER.size) // DEVICE.size


def device_slots(devices: Mapping[int, int], block_bits: int) -> bytes:
    """Return what comes behind the superblock: a slot for each device, in order.

    Args:
        devices: how many bytes each has, by its number.
        block_bits: logarithm of the size of a block.

    Raises:
        InvalidArgument: too many devices.
        ResourceExhausted: one is larger than the format can address.
    """
    if len(devices) > _MAX_DEVICES:
        raise InvalidArgument(f"{len(devices)} devices; EROFS has {_MAX_DEVICES}")
    slots = []
    for slot, (number, size) in enumerate(devices.items(), 1):
        blocks = -(-size >> block_bits)
        if blocks > MAX_BLOCK:
            raise ResourceExhausted(
                f"device {number} of {size} bytes is more than EROFS can address"
            )
        slots.append(DEVICE.pack(b"layer%d" % slot, blocks, 0))
    return b"".join(slots)


def super_block(
    options: ImageOptions, root: int, inodes: int, blocks: int, xattr_block: int, devices: int
) -> SuperBlock:
    """Return the superblock of an image, without its checksum.

    Args:
        options: size of blocks, and identity.
        root: number of the root's inode.
        inodes: how many there are.
        blocks: how many the image has.
        xattr_block: where shared xattrs begin, 0 if there are none.
        devices: how many it points into.
    """
    return SuperBlock(
        magic=MAGIC,
        checksum=0,
        compat=COMPAT_CHECKSUM | COMPAT_MTIME,
        block_bits=options.block_bits,
        extra_slots=0,
        root=root,
        inodes=inodes,
        build_time=0,
        build_time_nsec=0,
        blocks=blocks,
        meta_block=0,
        xattr_block=xattr_block,
        uuid=options.uuid,
        volume=options.volume,
        incompat=INCOMPAT_CHUNKED | (INCOMPAT_DEVICES if devices else 0),
        algorithms=0,
        devices=devices,
        device_slot=(SUPER_OFFSET + SUPER.size) // DEVICE.size if devices else 0,
        directory_bits=0,
        prefixes=0,
        prefix_start=0,
        packed=0,
        xattr_filter=0,
    )
