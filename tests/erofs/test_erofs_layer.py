"""Layers over layers that are images already: the same tree as over those that are described."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from support.described import marks
from support.erofs import ErofsStack
from support.layer_cases import BASE, CASES
from support.layers import Layer, file
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply

from snapcore.archive.virtual import MergedView
from snapcore.erofs import Image, ImageDirectory, ImageLayer, Place
from snapcore.erofs.layout import INODE, RawInode
from snapcore.errors import DataLoss, RefusedInput
from snapcore.oci import WhiteoutStyle


def as_image(stack: ErofsStack) -> ImageDirectory[Place]:
    """Return the nearest layer of a stack, read from an image of its own."""
    image = stack.image(stack.own)
    return ImageLayer(image, WhiteoutStyle.OVERLAY, Place).root


def check(layers: Sequence[Layer]) -> None:
    """Put each layer over images of those below, and compare with the model."""
    written, tree = ErofsStack(), empty_tree()
    for layer in layers:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            with pytest.raises(RefusedInput):
                written.apply(layer)
            return
        own = written.apply(layer)
        read = as_image(written)
        assert marks(read) == marks(own)
        written.layers[0] = read
        assert written.observe() == describe(tree)


@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer, _ in CASES])
def test_a_layer_over_an_image(layer: Layer) -> None:
    check([BASE, layer, layer])


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
def test_stacks_of_images(stack: list[Layer]) -> None:
    check(stack)


@pytest.mark.long
@settings(max_examples=15_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_stacks_of_images_for_long(stack: list[Layer]) -> None:
    check(stack)


def test_a_wide_directory_is_searched_by_bisection() -> None:
    stack = ErofsStack()
    names = [b"%04d" % number for number in range(0, 4000, 2)]
    stack.apply([file(b"wide/" + name) for name in names])
    image = stack.image()
    wide = image.lookup((b"wide",))
    assert all(image.find(wide, name) is not None for name in names)
    for name in (b"", b"-", b".0", b"0001", b"1999", b"3999", b"4", b"z"):
        assert image.find(wide, name) is None
    directory = as_image(stack).lookup(b"wide")
    assert isinstance(directory, ImageDirectory)
    assert list(directory.names()) == names
    assert directory.lookup(b".") is None
    assert directory.lookup(b"..") is None


def test_a_file_in_several_pieces_has_no_place() -> None:
    stack = ErofsStack()
    # The first block is under the superblock's checksum.
    stack.apply([*(file(f"before{number}") for number in range(20)), file("two", b"x" * 600)])
    image = stack.image()
    inode = image.lookup((b"two",))
    raw = RawInode._make(INODE.unpack_from(image.data, inode.position))
    changed = bytearray(image.data)
    INODE.pack_into(changed, inode.position, *raw._replace(data=raw.data & ~0x1F))
    # Both halves: the second one's address is whatever follows, which is a hole or out of it.
    root = ImageLayer(Image(memoryview(changed)), WhiteoutStyle.OVERLAY, Place).root
    with pytest.raises(DataLoss, match=r"not in one piece|has bytes in device|outside"):
        root.lookup(b"two")


def test_what_a_view_shows_of_images() -> None:
    stack = ErofsStack()
    stack.apply(BASE)
    stack.layers[0] = as_image(stack)
    view = MergedView(stack.layers)
    found = view.find((b"h1",))
    assert found is view.find((b"d", b"h3"))
    assert len(view.names(found)) == 3  # type: ignore[arg-type]
    assert view.find((b"no",)) is None
