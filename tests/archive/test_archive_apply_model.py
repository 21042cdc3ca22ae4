"""Every layer means the same on every backend, in both modes: what the model says it means."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from support.layers import Apart, Layer, Native, Overlay, entry, file, folder
from support.stacks import stacks
from support.tree_model import Refused, describe, empty_tree, model_apply, observe

from snapcore.archive import EntryType, tree_digest
from snapcore.errors import RefusedInput

pytestmark = pytest.mark.needs_root

Backend: TypeAlias = Native | Overlay

_BACKENDS: Sequence[Callable[[str], Backend]] = (
    Native,
    Overlay,
    lambda top: Native(top, whiteouts_first=True),
    lambda top: Overlay(top, whiteouts_first=True),
)


def check(stack: Sequence[Layer], top: FilePath) -> None:
    """Apply a stack of layers everywhere and compare with the model, layer by layer."""
    with tempfile.TemporaryDirectory(dir=top) as room:
        places: list[Backend] = []
        for number, make in enumerate(_BACKENDS):
            own = os.path.join(room, str(number))
            os.mkdir(own)
            places.append(make(own))
        tree = empty_tree()
        for layer in stack:
            try:
                tree = model_apply(tree, layer)
            except Refused:
                for place in places:
                    with pytest.raises(RefusedInput):
                        place.apply(layer)
                return
            wanted = describe(tree)
            digests = set()
            for place in places:
                place.apply(layer)
                with place.mounted() as root:
                    assert observe(root) == wanted
                    digests.add(tree_digest(root).digest)
            assert len(digests) == 1


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks())
def test_all_backends_and_modes_agree_with_the_model(
    stack: list[Layer], tmp_path: FilePath
) -> None:
    check(stack, tmp_path)


@pytest.mark.long
@settings(
    max_examples=4_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks())
@pytest.mark.timeout(3600)
def test_all_backends_and_modes_agree_with_the_model_for_long(
    stack: list[Layer], tmp_path: FilePath
) -> None:
    check(stack, tmp_path)


@pytest.mark.parametrize("kind", [Native, Overlay, Apart])
@pytest.mark.parametrize("name", ["", "d"])
def test_nothing_inherits_from_a_directory_that_is_changed_while_open(
    kind: Callable[[str], Backend], name: str, tmp_path: FilePath
) -> None:
    inside = f"{name}/" if name else ""
    layer = [
        folder(name),
        file(f"{inside}before"),
        entry(name, EntryType.DIRECTORY, mode=0o2775, ids=(0, 100)),
        file(f"{inside}after"),
        file(f"{inside}before", b"again"),
    ]
    place, tree = kind(str(tmp_path)), empty_tree()
    for each in ([], layer):
        tree = model_apply(tree, each)
        place.apply(each)
    with place.mounted() as root:
        assert observe(root) == describe(tree)
