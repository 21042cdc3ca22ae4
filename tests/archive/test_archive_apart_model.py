"""A layer applied apart and settled gives the tree of one applied in order, or asks for that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.layers import Apart, Layer, Overlay
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply, observe

from snapcore.archive import tree_digest
from snapcore.errors import RefusedInput

pytestmark = pytest.mark.needs_root


def check(stack: Sequence[Layer], top: Path) -> Apart:
    """Apply a stack of layers in order and apart; compare after each layer."""
    with tempfile.TemporaryDirectory(dir=top) as room:
        for name in ("order", "apart"):
            os.mkdir(os.path.join(room, name))
        in_order, apart = Overlay(os.path.join(room, "order")), Apart(os.path.join(room, "apart"))
        tree = empty_tree()
        for layer in stack:
            try:
                tree = model_apply(tree, layer)
            except Refused:
                for place in (in_order, apart):
                    with pytest.raises(RefusedInput):
                        place.apply(layer)
                break
            in_order.apply(layer)
            apart.apply(layer)
            with in_order.mounted() as wanted, apart.mounted() as found:
                assert observe(found) == describe(tree)
                assert tree_digest(found).digest == tree_digest(wanted).digest
        return apart


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks())
def test_apart_is_as_in_order(stack: list[Layer], tmp_path: Path) -> None:
    check(stack, tmp_path)


def test_most_of_what_builders_write_is_settled(tmp_path: Path) -> None:
    settled: list[int] = []
    redone: list[str] = []

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(stack=built_stacks())
    def run(stack: list[Layer]) -> None:
        apart = check(stack, tmp_path)
        settled.append(apart.settled)
        redone.extend(apart.redone)

    run()
    assert sum(settled) > 150
    assert sum(settled) > 8 * len(redone), redone


@pytest.mark.long
@settings(
    max_examples=4_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
@pytest.mark.timeout(3600)
def test_apart_is_as_in_order_for_long(stack: list[Layer], tmp_path: Path) -> None:
    check(stack, tmp_path)
