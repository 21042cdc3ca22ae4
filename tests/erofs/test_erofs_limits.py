"""What cannot be written is refused with a reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest
from support.erofs import image_of

from snapcore.archive.virtual import Attributes, Directory, Leaf
from snapcore.erofs import ImageOptions, Place, check_image, write_image
from snapcore.errors import InvalidArgument, RefusedInput, ResourceExhausted, SnapcoreError
from snapcore.oci import WhiteoutStyle

DIRECTORY = Attributes(0o755, 0, 0, 0)


def tree(name: bytes = b"it", **fields: object) -> Directory[Place]:
    root: Directory[Place] = Directory(DIRECTORY)
    root.children[name] = Leaf(
        **({"mode": stat.S_IFREG | 0o644, "uid": 0, "gid": 0, "mtime": 0} | fields)  # type: ignore[arg-type]
    )
    return root


def with_data(size: int, place: Place | None) -> Callable[[], Directory[Place]]:
    return lambda: tree(size=size, place=place)


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda: tree(b"n" * 256), RefusedInput, "a name of 256 bytes"),
        (
            lambda: tree(mode=stat.S_IFLNK | 0o777, size=4096, target=b"t" * 4096),
            RefusedInput,
            "a symlink's target of 4096 bytes",
        ),
        (with_data(1, None), InvalidArgument, "in no device: None"),
        (with_data(1, Place(0, 0)), InvalidArgument, "in no device"),
        (with_data(1, Place(2, 0)), InvalidArgument, "in no device"),
        (with_data(1, Place(1, 100)), InvalidArgument, "1 bytes at 100 do not begin at a block"),
        (with_data(1, Place(1, -512)), InvalidArgument, "do not begin at a block"),
        (
            with_data(513, Place(1, 512)),
            InvalidArgument,
            "past the end of device 1, which",
        ),
        (lambda: tree(xattrs=((b"no.such", b""),)), InvalidArgument, "no xattr b'no.such'"),
        (lambda: tree(xattrs=((b"user.", b""),)), InvalidArgument, "no xattr b'user.'"),
        (
            lambda: tree(xattrs=((b"system.posix_acl_accessory", b""),)),
            InvalidArgument,
            "no xattr",
        ),
        (
            lambda: tree(xattrs=((b"user.a", bytes(0x10000)),)),
            ResourceExhausted,
            "the 65536 bytes of xattr b'user.a'",
        ),
        (
            lambda: tree(xattrs=tuple((b"user.%d" % n, bytes(0xFFFF)) for n in range(5))),
            ResourceExhausted,
            "bytes of xattrs are more than an inode can have",
        ),
    ],
)
def test_a_tree_that_no_image_can_hold(
    make: Callable[[], Directory[Place]], kind: type[SnapcoreError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        image_of(make(), [1024])


@pytest.mark.parametrize("size", [(1 << 41) + 512, 1 << 42])
def test_a_device_that_cannot_be_addressed(size: int) -> None:
    with pytest.raises(ResourceExhausted, match=f"device 1 of {size} bytes"):
        image_of(tree(), [size])


def test_too_many_devices() -> None:
    with pytest.raises(InvalidArgument, match="65536 devices"):
        image_of(tree(), [512] * 65536)


@pytest.mark.parametrize("count", [1, 7, 32, 500])
def test_many_devices(count: int) -> None:
    root: Directory[Place] = Directory(DIRECTORY)
    for number in range(1, count + 1):
        root.children[b"%d" % number] = Leaf(
            0o100644, 0, 0, 0, size=number, place=Place(number, 512 * number)
        )
    sizes = [512 * number + number for number in range(1, count + 1)]
    image, summary = image_of(root, sizes)
    assert check_image(image, sizes).inodes == summary.inodes == count + 1
    extent = next(iter(image.extents(image.lookup((b"%d" % count,)))))
    assert extent == (count, 512 * count, count)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"block_bits": 8}, "blocks of 2\\*\\*8 bytes"),
        ({"block_bits": 13}, "blocks of 2\\*\\*13 bytes"),
        ({"style": WhiteoutStyle.APPLY}, "has no marks"),
        ({"uuid": b"short"}, "a UUID has 16 bytes"),
        ({"volume": b"v" * 16}, "15 at most"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        ImageOptions(**options)  # type: ignore[arg-type]


def test_a_disk_that_is_full() -> None:
    full = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(ResourceExhausted, match="EROFS image"):
            write_image(tree(), {}, full)
    finally:
        os.close(full)


def test_xattrs_that_all_differ_are_kept_apart_past_a_number() -> None:
    root: Directory[Place] = Directory(DIRECTORY)
    for number in range(70_000):
        name = b"%d" % number
        root.children[name] = Leaf(0o100644, 0, 0, 0, ((b"user.hash", name),))
    image, _ = image_of(root)
    for name in (b"0", b"65535", b"65536", b"69999"):
        assert image.xattrs(image.lookup((name,))) == {b"user.hash": name}
