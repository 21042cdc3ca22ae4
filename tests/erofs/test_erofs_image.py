"""What is written is what is described: read back by us, and by the kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, given, settings
from support.erofs import ErofsStack, image_of, mounted
from support.layer_cases import BASE, CASES
from support.layers import Layer, entry, file, folder, symlink
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply, observe

from snapcore.archive import EntryType
from snapcore.archive.virtual import Attributes, Directory, Leaf
from snapcore.erofs import ImageOptions, Place, check_image, write_image
from snapcore.mount import Mount, temporary_mount
from snapcore.oci import WhiteoutStyle

NANOSECOND = 1_000_000_001
LENGTHS = (1, 399, 447, 448, 479, 480, 481, 512, 4095)
ODD: Layer = (
    folder("empty"),
    file("zero", b""),
    file("block", b"b" * 512),
    file("more", b"m" * 513),
    file("big", b"0123456789abcdef" * 70_000),
    entry("old", data=b"1", mtime=-5 * NANOSECOND, ids=(2**32 - 2, 2**31)),
    entry("new", data=b"2", mtime=2**33 * 10**9 + 123_456_789, mode=0o6755),
    entry("tty", EntryType.CHARACTER, device=(4, 64)),
    entry("disk", EntryType.BLOCK, device=(259, 70_000), mode=0o660),
    entry("pipe", EntryType.FIFO),
    file(b"\xff\xfe not UTF-8", b"x"),
    file("n" * 255, b"long name"),
    *(symlink(f"to{length}", "t" * length) for length in LENGTHS),
    entry("many", data=b"x", xattrs={b"user.%d" % n: b"v%d" % (n % 7) for n in range(300)}),
    entry("value", data=b"x", xattrs={b"user.large": b"v" * 5000}),
    entry("able", data=b"x", xattrs={b"security.capability": b"\1\0\0\2" + bytes(16)}),
    entry("dir", EntryType.DIRECTORY, mode=0o1777, xattrs={b"user.same": b"same"}),
    entry("same", data=b"x", xattrs={b"user.same": b"same"}),
)  # fmt: skip
WIDE: Layer = (folder("wide"), *(file(f"wide/{number:05}", b"") for number in range(3000)))


def check(stack: Sequence[Layer]) -> ErofsStack:
    """Write a stack and compare what is read back with the model, layer by layer."""
    written, tree = ErofsStack(), empty_tree()
    for layer in stack:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            return written
        own = written.apply(layer)
        check_image(written.image(own), [len(each) for each in written.data])
        assert written.observe() == describe(tree)
    check_image(written.image(), [len(each) for each in written.data])
    return written


@pytest.mark.parametrize(
    "layer", [pytest.param(layer, id=name) for name, layer, _ in (*CASES, ("odd", ODD, {}))]
)
def test_what_is_read_back_is_what_the_model_says(layer: Layer) -> None:
    check([BASE, layer])


def test_a_directory_of_many_blocks() -> None:
    check([WIDE])


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
def test_stacks_are_as_the_model_says(stack: list[Layer]) -> None:
    check(stack)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_stacks_are_as_the_model_says_for_long(stack: list[Layer]) -> None:
    check(stack)


def _stack(layers: Sequence[Layer]) -> tuple[ErofsStack, object]:
    written, tree = ErofsStack(), empty_tree()
    for layer in layers:
        tree = model_apply(tree, layer)
        written.apply(layer)
    return written, describe(tree)


STACKS = [pytest.param([BASE, layer], id=name) for name, layer, _ in (*CASES, ("odd", ODD, {}))]


@pytest.mark.needs_root
@pytest.mark.parametrize("layers", STACKS)
def test_the_kernel_shows_a_merged_image_as_the_model_says(
    layers: Sequence[Layer], erofs_place: FilePath
) -> None:
    written, expected = _stack(layers)
    devices = written.write(str(erofs_place), "image")
    with mounted(str(erofs_place / "image"), devices, str(erofs_place / "mnt")) as target:
        assert observe(target) == expected


@pytest.mark.needs_root
@pytest.mark.parametrize("layers", STACKS)
def test_overlayfs_puts_images_of_single_layers_together(
    layers: Sequence[Layer], erofs_place: FilePath
) -> None:
    written, expected = _stack(layers)
    top = str(erofs_place)
    with ExitStack() as stack:
        lowers = []
        for number, layer in enumerate(written.layers):
            name = f"image{number}"
            assert isinstance(layer, Directory)
            devices = written.write(top, name, layer)
            place = os.path.join(top, f"mnt{number}")
            lowers.append(stack.enter_context(mounted(os.path.join(top, name), devices, place)))
            if layer.opaque:
                # The kernel ignores the mark on a root.
                break
        os.mkdir(os.path.join(top, "nothing"))
        lowers.append(os.path.join(top, "nothing"))
        options = (f"lowerdir={':'.join(lowers)}",)
        overlay = Mount("overlay", "overlay", options=options)
        merged = stack.enter_context(temporary_mount((overlay,), top))
        assert observe(merged) == expected


@pytest.mark.needs_root
def test_the_kernel_finds_each_of_many_names(erofs_place: FilePath) -> None:
    written, _ = _stack([WIDE])
    devices = written.write(str(erofs_place), "image")
    with mounted(str(erofs_place / "image"), devices, str(erofs_place / "mnt")) as target:
        place = os.path.join(target, "wide")
        assert sorted(os.listdir(place)) == [f"{number:05}" for number in range(3000)]
        assert all(os.path.lexists(os.path.join(place, f"{number:05}")) for number in range(3000))
        assert not os.path.lexists(os.path.join(place, "03000"))
        assert os.stat(target).st_nlink == 3


@pytest.mark.needs_root
def test_a_file_of_more_than_four_gibibytes(erofs_place: FilePath) -> None:
    size, offset = (5 << 30) + 17, 1 << 20
    device = erofs_place / "data"
    with device.open("wb") as data:
        data.truncate(offset + size + 1000)
        data.seek(offset + (4 << 30))
        data.write(b"behind four")
    root: Directory[Place] = Directory(Attributes(0o755, 0, 0, 0))
    root.children[b"huge"] = Leaf(0o100644, 0, 0, 0, size=size, place=Place(1, offset))
    image, _ = image_of(root, [device.stat().st_size])
    check_image(image, [device.stat().st_size])
    with (erofs_place / "image").open("wb+") as file_:
        write_image(root, {1: device.stat().st_size}, file_.fileno())
    with (
        mounted(str(erofs_place / "image"), f"device={device}", str(erofs_place / "mnt")) as target,
        open(os.path.join(target, "huge"), "rb") as huge,
    ):
        assert os.fstat(huge.fileno()).st_size == size
        huge.seek(4 << 30)
        assert huge.read(11) == b"behind four"


@pytest.mark.parametrize("style", [WhiteoutStyle.OVERLAY, WhiteoutStyle.OVERLAY_USER])
def test_opaque_directories_carry_the_mark_of_their_style(style: WhiteoutStyle) -> None:
    root: Directory[Place] = Directory(Attributes(0o755, 0, 0, 0, ((b"user.a", b"b"),)))
    below = root.children[b"d"] = Directory(Attributes(0o700, 1, 2, 3), opaque=True)
    assert isinstance(below, Directory)
    image, _ = image_of(root, options=ImageOptions(style=style))
    assert image.xattrs(image.lookup((b"d",))) == {style.opaque_xattr.encode(): b"y"}
    assert image.xattrs(image.root) == {b"user.a": b"b"}


def test_the_same_tree_gives_the_same_bytes() -> None:
    images = []
    for layers in ((BASE, ODD), (BASE, ODD)):
        written, _ = _stack(layers)
        images.append(written.image())
    assert images[0].data == images[1].data


def test_links_are_counted_as_they_show() -> None:
    written, _ = _stack([BASE, [file("h2", b"another")]])
    image = written.image()
    assert image.lookup((b"h1",)).links == 2
    assert image.lookup((b"h1",)).number == image.lookup((b"d", b"h3")).number
    assert image.lookup((b"h2",)).links == 1
