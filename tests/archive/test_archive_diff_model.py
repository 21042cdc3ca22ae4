"""apply(diff(A, B), A) = B, for trees as layers make them and for what overlayfs leaves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, given, settings
from support.diffs import between, of_upper
from support.layers import KEEP, Layer, LocalSteps, MemorySource, Native, Overlay, opened
from support.stacks import stacks
from support.tree_model import Refused, empty_tree, model_apply

from snapcore.archive import Destination, apply_entries, collect, tree_digest
from snapcore.mount import Mount, temporary_mount
from snapcore.oci import WhiteoutStyle

pytestmark = pytest.mark.needs_root

_QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_LONG = settings(_QUICK, max_examples=1_000, derandomize=False)


def applied(stack: Sequence[Layer], place: Native | Overlay) -> Native | Overlay:
    """Apply the layers of a stack that can be, on an empty one."""
    tree = empty_tree()
    place.apply([])
    for layer in stack:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            continue
        place.apply(layer)
    return place


def native(top: str, name: str, stack: Sequence[Layer]) -> Native:
    os.mkdir(os.path.join(top, name))
    place = applied(stack, Native(os.path.join(top, name)))
    assert isinstance(place, Native)
    return place


def check_trees(one: Sequence[Layer], other: Sequence[Layer], top: FilePath) -> None:
    with tempfile.TemporaryDirectory(dir=top) as room:
        before, after = native(room, "before", one), native(room, "after", other)
        os.mkdir(os.path.join(room, "overlay"))
        overlay = applied(one, Overlay(os.path.join(room, "overlay")))
        with before.mounted() as old, after.mounted() as new:
            wanted = tree_digest(new)
            layer = between(old, new).layer
        paths = [entry.path for entry, _ in layer]
        assert paths == sorted(paths)
        for place in (before, overlay):
            place.apply(layer)
            with place.mounted() as found, after.mounted() as new:
                assert tree_digest(found) == wanted
                assert between(found, new).written.entries == 0
        with after.mounted() as new:
            whole = native(room, "whole", [between(None, new).layer])
        with whole.mounted() as found:
            assert tree_digest(found) == wanted


def check_upper(one: Sequence[Layer], other: Sequence[Layer], top: FilePath) -> None:
    with tempfile.TemporaryDirectory(dir=top) as room:
        before = native(room, "before", one)
        upper, work = os.path.join(room, "upper"), os.path.join(room, "work")
        with before.mounted() as lower:
            os.mkdir(work)
            os.mkdir(upper)
            status = os.stat(lower)
            os.chmod(upper, status.st_mode)
            os.chown(upper, status.st_uid, status.st_gid)
            for name in os.listxattr(lower):
                os.setxattr(upper, name, os.getxattr(lower, name))
            os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))
            places = (f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}")
            options = (*places, "redirect_dir=nofollow", "metacopy=off", "index=off")
            with temporary_mount([Mount("overlay", "overlay", options=options)], room) as merged:
                change(merged, one, other)
                wanted = tree_digest(merged)
                layer = of_upper(upper, lowers=[lower]).layer
        before.apply(layer)
        with before.mounted() as found:
            assert tree_digest(found) == wanted


def change(merged: str, one: Sequence[Layer], other: Sequence[Layer]) -> None:
    """Have the kernel change a mounted tree as layers say."""
    tree = empty_tree()
    for layer in one:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            continue
    for layer in other:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            continue
        with opened(merged) as directory:
            destination = Destination(directory, None, WhiteoutStyle.APPLY, base=False)
            apply_entries(
                MemorySource(layer), destination, KEEP, LocalSteps(), collect(MemorySource(layer))
            )


@_QUICK
@given(one=stacks(), other=stacks())
def test_applied_to_the_first_tree_a_diff_gives_the_second(
    one: list[Layer], other: list[Layer], tmp_path: FilePath
) -> None:
    check_trees(one, other, tmp_path)
    check_trees(one, [*one, *other], tmp_path)


@_QUICK
@given(one=stacks(), other=stacks())
def test_an_upper_directory_is_what_the_kernel_shows(
    one: list[Layer], other: list[Layer], tmp_path: FilePath
) -> None:
    check_upper(one, other, tmp_path)


@pytest.mark.long
@_LONG
@given(one=stacks(), other=stacks())
@pytest.mark.timeout(3600)
def test_applied_to_the_first_tree_a_diff_gives_the_second_for_long(
    one: list[Layer], other: list[Layer], tmp_path: FilePath
) -> None:
    check_trees(one, other, tmp_path)
    check_trees(one, [*one, *other], tmp_path)


@pytest.mark.long
@_LONG
@given(one=stacks(), other=stacks())
@pytest.mark.timeout(3600)
def test_an_upper_directory_is_what_the_kernel_shows_for_long(
    one: list[Layer], other: list[Layer], tmp_path: FilePath
) -> None:
    check_upper(one, other, tmp_path)
