"""Describing a layer over unpacked ones: the same tree, or the reason why it cannot be lazy."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, given, settings
from support.described import DescribedStack, observe_view
from support.layers import Layer, Overlay, Path, entry, file, folder, hardlink, opened, symlink
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply

from snapcore.archive import EntryType
from snapcore.archive.virtual import (
    WHITEOUT,
    Attributes,
    DiskLayer,
    MergedView,
    NotLazy,
)
from snapcore.archive.virtual import describe as describe_layer
from snapcore.archive.virtual.disk import DiskDirectory
from snapcore.errors import DataLoss, RefusedInput
from snapcore.oci import WhiteoutStyle

pytestmark = pytest.mark.needs_root


@contextmanager
def unpacked(layers: Sequence[Layer], top: str) -> Iterator[DescribedStack]:
    """Unpack layers and yield a stack on top of which more can be described."""
    real = Overlay(top)
    for layer in layers:
        real.apply(layer)
    with ExitStack() as files:
        stack = DescribedStack()
        for upper in reversed(real.uppers):
            directory = files.enter_context(opened(upper))
            stack.layers.append(DiskLayer(directory, WhiteoutStyle.OVERLAY).root)
        yield stack


def without_content(tree: Mapping[Path, tuple[object, ...]]) -> dict[Path, tuple[object, ...]]:
    """Leave out the bytes of files: nothing says what they are in an unpacked layer."""
    return {
        path: (*shown[:4], b"", *shown[5:]) if shown[0] is EntryType.FILE else shown
        for path, shown in tree.items()
    }


def check(stack: Sequence[Layer], top: str) -> str:
    """Unpack all layers but the last; describe that one; say what came of it."""
    *below, last = stack
    tree = empty_tree()
    for layer in below:
        tree = model_apply(tree, layer)
    with unpacked(below, top) as described:
        try:
            tree = model_apply(tree, last)
        except Refused:
            # A link that needs bytes may stand before what is refused.
            with pytest.raises((RefusedInput, NotLazy)):
                described.apply(last)
            return "refused"
        try:
            described.apply(last)
        except NotLazy:
            return "not lazy"
        seen = observe_view(described.view(), sized=False)
        assert without_content(seen) == without_content(describe(tree))
        return "described"


def test_over_unpacked_layers_a_layer_means_the_same(tmp_path: FilePath) -> None:
    outcomes: list[str] = []

    @settings(
        max_examples=80,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stack=built_stacks())
    def run(stack: list[Layer]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as top:
            outcomes.append(check(stack, top))

    run()
    assert outcomes.count("described") > 40


@pytest.mark.long
@settings(
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_over_unpacked_layers_a_layer_means_the_same_for_long(
    stack: list[Layer], tmp_path: FilePath
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as top:
        check(stack, top)


BELOW: Layer = [
    file("full", b"bytes"),
    file("empty"),
    hardlink("empty-too", "empty"),
    symlink("s", "full"),
    hardlink("t", "s"),
    folder("d"),
    entry("d/pipe", EntryType.FIFO),
]


def test_a_link_to_bytes_of_an_unpacked_layer_is_not_lazy(tmp_path: FilePath) -> None:
    with (
        unpacked([BELOW], str(tmp_path)) as stack,
        pytest.raises(NotLazy, match=r"'full'.*unpacked"),
    ):
        stack.apply([hardlink("new", "full")])


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("empty", {b"new", b"empty", b"empty-too"}),
        ("t", {b"new", b"s", b"t"}),
        ("d/pipe", {b"new", b"d"}),
    ],
)
def test_a_link_that_needs_no_bytes_is_made(
    target: str, names: set[bytes], tmp_path: FilePath
) -> None:
    with unpacked([BELOW], str(tmp_path)) as stack:
        assert set(stack.apply([hardlink("new", target)]).root.names()) == names


def test_an_unpacked_layer_shows_marks_of_both_styles(tmp_path: FilePath) -> None:
    os.mkdir(tmp_path / "hidden")
    os.mknod(tmp_path / "gone", 0o600 | 0o020000, 0)
    with opened(str(tmp_path)) as directory:
        for style in (WhiteoutStyle.OVERLAY, WhiteoutStyle.OVERLAY_USER):
            os.setxattr(tmp_path / "hidden", style.opaque_xattr, b"y")
            hidden = DiskLayer(directory, style).root.lookup(b"hidden")
            assert isinstance(hidden, DiskDirectory)
            assert hidden.opaque
            os.removexattr(tmp_path / "hidden", style.opaque_xattr)
        assert DiskLayer(directory, style).root.lookup(b"gone") is WHITEOUT


class Failing:
    """The root of a layer on a medium that fails."""

    opaque = False
    attributes = Attributes(0o755, 0, 0, 0)

    def lookup(self, name: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def names(self) -> Sequence[bytes]:
        return ()


@pytest.mark.parametrize("layer", [[file("d/x")], [file(".wh.y")], [hardlink("x", "y")]])
def test_a_layer_that_cannot_be_read_is_data_loss(layer: Layer) -> None:
    with pytest.raises(DataLoss, match="unpacked layer"):
        describe_layer(layer, MergedView[bytes]([Failing()]))
