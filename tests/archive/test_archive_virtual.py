"""A layer described is the layer unpacked: in the model, and as overlayfs has it on disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, given, settings
from support.described import DescribedStack, marks, observe_view
from support.layer_cases import BASE, CASES, REFUSED
from support.layers import SQUASH, Layer, Overlay, entry, file, folder, hardlink, opened, symlink
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply, observe

from snapcore.archive import Entry, EntryType
from snapcore.archive.virtual import DiskLayer, MergedView
from snapcore.archive.virtual import describe as describe_layer
from snapcore.errors import RefusedInput
from snapcore.oci import WhiteoutStyle


def check(stack: Sequence[Layer]) -> None:
    """Describe a stack of layers and compare with the model, layer by layer."""
    described, tree = DescribedStack(), empty_tree()
    for layer in stack:
        try:
            tree = model_apply(tree, layer)
        except Refused:
            with pytest.raises(RefusedInput, match="layer entry "):
                described.apply(layer)
            return
        described.apply(layer)
        assert observe_view(described.view()) == describe(tree)


@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer, _ in CASES])
def test_a_layer_changes_the_base_as_the_model_says(layer: Layer) -> None:
    check([BASE, layer])


@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer in REFUSED])
def test_a_layer_is_refused(layer: Layer) -> None:
    described = DescribedStack()
    described.apply(BASE)
    with pytest.raises(RefusedInput, match="layer entry "):
        described.apply(layer)


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
def test_stacks_are_as_the_model_says(stack: list[Layer]) -> None:
    check(stack)


@pytest.mark.long
@settings(max_examples=30_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_stacks_are_as_the_model_says_for_long(stack: list[Layer]) -> None:
    check(stack)


def same_upper(stack: Sequence[Layer], top: str) -> None:
    """Apply a stack really and described; each layer's own trees are the same, marks and all."""
    real, described = Overlay(top, whiteouts_first=True), DescribedStack()
    for layer in stack:
        try:
            root = described.apply(layer).root
        except RefusedInput:
            with pytest.raises(RefusedInput):
                real.apply(layer)
            return
        real.apply(layer)
        with opened(real.uppers[-1]) as upper:
            on_disk = DiskLayer(upper, WhiteoutStyle.OVERLAY).root
            assert marks(on_disk) == marks(root)
        with real.mounted() as merged:
            assert observe_view(described.view()) == observe(merged)


@pytest.mark.needs_root
@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer, _ in CASES])
def test_the_upper_directory_is_the_one_on_disk(layer: Layer, tmp_path: FilePath) -> None:
    same_upper([BASE, layer], str(tmp_path))


@pytest.mark.needs_root
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
def test_upper_directories_of_stacks_are_those_on_disk(
    stack: list[Layer], tmp_path: FilePath
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as top:
        same_upper(stack, top)


@pytest.mark.needs_root
@pytest.mark.long
@settings(
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_upper_directories_of_stacks_are_those_on_disk_for_long(
    stack: list[Layer], tmp_path: FilePath
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as top:
        same_upper(stack, top)


ACL_HEADER = b"\2\0\0\0"


def acl(*entries: tuple[int, int, int]) -> bytes:
    return ACL_HEADER + b"".join(
        tag.to_bytes(2, "little") + access.to_bytes(2, "little") + number.to_bytes(4, "little")
        for tag, access, number in entries
    )


OWNER, USER, GROUP, NAMED, MASK, OTHER, NONE = 1, 2, 4, 8, 16, 32, 0xFFFFFFFF
MINIMAL = acl((OWNER, 6, NONE), (GROUP, 4, NONE), (OTHER, 0, NONE))
FULL = acl((OWNER, 7, 0), (USER, 6, 5), (GROUP, 5, 9), (MASK, 2, NONE), (OTHER, 1, NONE))
ACLS = {
    "minimal": MINIMAL,
    "full": FULL,
    "empty": ACL_HEADER,
    "no-owner": acl((GROUP, 4, NONE), (OTHER, 0, NONE)),
    "no-other": acl((OWNER, 6, NONE), (GROUP, 4, NONE)),
    "no-mask": acl((OWNER, 7, NONE), (USER, 6, 5), (GROUP, 5, NONE), (OTHER, 1, NONE)),
    "mask-only": acl((OWNER, 7, NONE), (GROUP, 7, NONE), (MASK, 5, NONE), (OTHER, 1, NONE)),
    "unknown-tag": acl((OWNER, 6, NONE), (GROUP, 4, NONE), (64, 1, NONE), (OTHER, 0, NONE)),
    "too-much": acl((OWNER, 8, NONE), (GROUP, 4, NONE), (OTHER, 0, NONE)),
    "nobody": acl((OWNER, 7, 0), (USER, 6, NONE), (GROUP, 5, 9), (MASK, 2, 0), (OTHER, 1, 0)),
    "groups": acl(
        (OWNER, 7, 0), (GROUP, 5, 9), (NAMED, 1, 2), (NAMED, 3, 1), (MASK, 2, 0), (OTHER, 1, 0)
    ),
    "mask-first": acl((OWNER, 7, 0), (MASK, 2, 0), (GROUP, 5, 9), (OTHER, 1, 0)),
}


@pytest.mark.needs_root
@pytest.mark.parametrize("mode", [0o644, 0o2750, 0o500])
@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default"])
@pytest.mark.parametrize("kind", [EntryType.FILE, EntryType.DIRECTORY, EntryType.FIFO])
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in ACLS.items()])
def test_an_acl_leaves_what_the_kernel_leaves(
    value: bytes, kind: EntryType, name: bytes, mode: int, tmp_path: FilePath
) -> None:
    same_upper([[entry("node", kind, mode=mode, xattrs={name: value})]], str(tmp_path))


@pytest.mark.needs_root
def test_both_acls_of_a_directory_that_keeps_its_owner_out(tmp_path: FilePath) -> None:
    both = {b"system.posix_acl_access": FULL, b"system.posix_acl_default": MINIMAL}
    layer = [entry("d", EntryType.DIRECTORY, mode=0o050, xattrs=both), file("d/inside")]
    same_upper([layer, [file("d/more")], [hardlink("new", "d/more")]], str(tmp_path))


@pytest.mark.needs_root
def test_times_are_clamped_and_xattrs_left_out_as_on_disk(tmp_path: FilePath) -> None:
    left_out = {b"trusted.overlay.opaque": b"y", b"user.overlay.opaque": b"y", b"user.kept": b""}
    layer = [
        entry("early", mtime=-(2**62), xattrs=left_out),
        entry("late", EntryType.DIRECTORY, mtime=2**62, xattrs=left_out),
        entry("link", EntryType.SYMLINK, link="/..", mtime=2**62, xattrs=left_out, mode=0o777),
        entry("disk", EntryType.BLOCK, device=(4095, 2**20 - 1), ids=(2**32 - 2, 2**32 - 2)),
    ]
    same_upper([layer], str(tmp_path))
    (tmp_path / "again").mkdir()
    skipped = DescribedStack().apply(layer).skipped
    assert skipped == Overlay(str(tmp_path / "again")).apply(layer)
    assert skipped["xattr:trusted.overlay.opaque"] == 3


def test_squash_gives_everything_to_who_applies() -> None:
    stack = DescribedStack()
    stack.apply([entry("d", EntryType.DIRECTORY, ids=(5, 6)), entry("f", ids=(7, 8))])
    layer = [
        entry("d/f", ids=(3, 4)),
        entry("null", EntryType.CHARACTER, device=(1, 3)),
        hardlink("g", "f"),
    ]
    described = stack.apply(layer, SQUASH)
    assert described.skipped["device"] == 1
    seen = observe_view(stack.view())
    own = (os.geteuid(), os.getegid())
    assert {seen[path][2] for path in [(b"d",), (b"d", b"f"), (b"f",), (b"g",)]} == {own}
    assert (b"null",) not in seen


def test_entries_that_can_be_read_once_are_enough() -> None:
    layer = [file("d/x", b"x"), file(".wh.a"), file("b", b"b")]
    below = MergedView([describe_layer([file("a", b"a")], MergedView[bytes]([])).root])
    once = describe_layer(iter(layer), below)
    assert marks(once.root) == marks(describe_layer(layer, below).root)


def test_a_chain_of_layers_keeps_only_what_an_opaque_root_leaves() -> None:
    stack = DescribedStack()
    stack.apply([file("old", b"o"), folder("d"), file("d/x", b"x")])
    stack.apply([file(".wh..wh..opq"), symlink("s", "d")])
    assert stack.layers[0].opaque
    stack.apply([hardlink("t", "s")])
    assert [path for path, _ in sorted(stack.view().walk(), key=lambda item: item[0])] == [
        (),
        (b"s",),
        (b"t",),
    ]


def _large(count: int) -> list[tuple[Entry, int]]:
    parents = [
        (b"usr", b"lib", b"python3", b"site-packages", b"p%d" % n) for n in range(count // 12)
    ]
    made = [Entry(p, EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (), 0, 0, (), 0) for p in parents]
    for number in range(count - len(parents)):
        path = (*parents[number % len(parents)], b"module%d.py" % number)
        made.append(
            Entry(path, EntryType.FILE, 0o644, 0, 0, number, number, b"", (), 0, 0, (), number)
        )
    return [(item, item.offset) for item in made]


def test_many_entries_take_little_time() -> None:
    layer = _large(24_000)
    view = MergedView([describe_layer(layer, MergedView[int]([])).root])
    began = time.process_time()
    again = describe_layer(layer, view)
    took = time.process_time() - began
    assert sum(1 for _ in MergedView([again.root]).walk()) == len(layer) + 5
    # A fifth of 120,000 entries over as many: 0.3 s on a core of 2024; ten times that here.
    assert took < 3
