"""A damaged image is refused, or read as what it is: never a crash, never an endless loop."""

from __future__ import annotations

import random
import stat
from contextlib import suppress

import pytest
from support.erofs import ErofsStack
from support.layer_cases import BASE
from support.layers import entry, file, folder, symlink

from snapcore.erofs import Image, check_image
from snapcore.erofs.layout import INODE, SUPER, SUPER_OFFSET, RawInode, SuperBlock
from snapcore.errors import DataLoss


def sample() -> bytes:
    stack = ErofsStack()
    stack.apply(BASE)
    stack.apply(
        [
            folder("wide"),
            *(file(f"wide/{number}", b"x" * number) for number in range(60)),
            symlink("far", "t" * 600),
            entry("x", data=b"x", xattrs={b"user.a": b"b", b"trusted.c": b"d" * 5000}),
        ]
    )
    return bytes(stack.image().data)


SAMPLE = sample()


def go_over(data: bytes) -> None:
    """Read all that can be read."""
    with suppress(DataLoss):
        check_image(Image(memoryview(data)))


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_were_changed(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        data = bytearray(SAMPLE)
        for _ in range(rng.choice((1, 1, 3, 20))):
            data[rng.randrange(SUPER_OFFSET, len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        go_over(without_checksum(bytes(data)))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 120))
def test_bytes_that_were_changed_for_long(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        data = bytearray(SAMPLE)
        for _ in range(rng.choice((1, 1, 2, 5, 50))):
            data[rng.randrange(SUPER_OFFSET, len(data))] = rng.randrange(256)
        go_over(without_checksum(bytes(data)))


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1151, 1152, 1300, len(SAMPLE) - 512])
def test_an_image_that_is_cut_off(size: int) -> None:
    with pytest.raises(DataLoss):
        Image(memoryview(SAMPLE[:size]))


def with_super(**fields: int) -> bytes:
    found = SuperBlock._make(SUPER.unpack_from(SAMPLE, SUPER_OFFSET))
    changed = found._replace(compat=0, checksum=0, **fields)  # type: ignore[arg-type]
    return SAMPLE[:SUPER_OFFSET] + SUPER.pack(*changed) + SAMPLE[SUPER_OFFSET + SUPER.size :]


def without_checksum(data: bytes) -> bytes:
    found = SuperBlock._make(SUPER.unpack_from(data, SUPER_OFFSET))
    return (
        data[:SUPER_OFFSET]
        + SUPER.pack(*found._replace(compat=0))
        + data[SUPER_OFFSET + SUPER.size :]
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"magic": 1}, "not an EROFS image"),
        ({"block_bits": 30}, "blocks of 2"),
        ({"incompat": 0x1}, "features 0x1 that we do not read"),
        ({"blocks": 1 << 30}, "is cut off"),
        ({"meta_block": 1}, "a layout that we do not read"),
        ({"root": 0}, "inode 0 is of format 0"),
        ({"root": 0xFFFF}, "inode 65535 is outside"),
        ({"devices": 0xFFFF}, "device [0-9]+ is outside"),
    ],
)
def test_a_superblock_that_is_wrong(fields: dict[str, int], says: str) -> None:
    with pytest.raises(DataLoss, match=says):
        Image(memoryview(with_super(**fields)))


def test_a_superblock_whose_checksum_is_wrong() -> None:
    data = bytearray(SAMPLE)
    data[SUPER_OFFSET + 20] ^= 1
    with pytest.raises(DataLoss, match="wrong checksum"):
        Image(memoryview(data))


def with_inode(path: tuple[bytes, ...], **fields: int) -> Image:
    image = Image(memoryview(SAMPLE))
    position = image.lookup(path).position
    raw = RawInode._make(INODE.unpack_from(SAMPLE, position))._replace(**fields)
    data = SAMPLE[:position] + INODE.pack(*raw) + SAMPLE[position + INODE.size :]
    return Image(memoryview(data))


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ((b"file",), {"links": 5}, "has 1 names, and says 5"),
        ((b"h1",), {"links": 1}, "has 3 names, and says 1"),
        ((b"d",), {"links": 9}, "says that it has 9 names"),
        ((b"file",), {"format": 1 | 3 << 1}, "of format 7"),
        ((b"file",), {"mode": stat.S_IFLNK}, "of another type"),
        ((b"file",), {"mode": 0}, "has mode 0"),
        ((b"file",), {"nanoseconds": 1 << 31}, "ns"),
        ((b"file",), {"data": 0x60}, "pieces of format 0x60"),
        ((b"file",), {"size": 1 << 62}, "past the end of device|outside|in device"),
        ((b"lib",), {"size": 0}, "has no target"),
        ((b"lib",), {"size": 5000}, "has no target"),
        ((b"far",), {"data": 0xFFFFFF}, "outside"),
        ((b"x",), {"xattr_words": 0xFFFF}, "xattrs of inode"),
        ((b"d", b"sub"), {"size": 5}, "a block of 5 bytes"),
        ((b"wide",), {"data": 0}, "names at|outside|has a name"),
    ],
)
def test_an_inode_that_is_wrong(path: tuple[bytes, ...], fields: dict[str, int], says: str) -> None:
    with pytest.raises(DataLoss, match=says):
        check_image(with_inode(path, **fields))


def test_an_image_whose_devices_are_too_short() -> None:
    image = Image(memoryview(SAMPLE))
    with pytest.raises(DataLoss, match="past the end of device 1"):
        check_image(image, [0, *image.devices[1:]])
    with pytest.raises(DataLoss, match="has 2 devices, not 1"):
        check_image(image, [0])


def test_the_sample_is_sound() -> None:
    found = check_image(Image(memoryview(SAMPLE)))
    assert (found.directories, found.size) == (6, sum(range(60)) + 16)
