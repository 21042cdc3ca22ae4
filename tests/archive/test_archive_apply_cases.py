"""Named cases: what hostile and odd layers do to one base tree, the same on every backend.

All run on a directory that shows the whole tree and on an overlay, in a single pass and whiteouts
first.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.layer_cases import BASE, CASES, REFUSED, Changes
from support.layers import Layer, Native, Overlay
from support.tree_model import Refused, describe, empty_tree, model_apply, observe, sketch

from snapcore.errors import RefusedInput

pytestmark = pytest.mark.needs_root


def apply_everywhere(layer: Layer, top: Path) -> list[dict[tuple[bytes, ...], tuple[object, ...]]]:
    """Apply the base and a layer on both backends in both modes; return the trees."""
    trees = []
    for name, kind in (("native", Native), ("overlay", Overlay)):
        for first in (False, True):
            place = top / f"{name}-{first}"
            place.mkdir()
            backend = kind(str(place), whiteouts_first=first)
            backend.apply(BASE)
            backend.apply(layer)
            with backend.mounted() as root:
                trees.append(observe(root))
    return trees


@pytest.mark.parametrize(
    ("layer", "changes"), [pytest.param(layer, changes, id=name) for name, layer, changes in CASES]
)
def test_a_layer_changes_the_base_in_the_same_way_everywhere(
    layer: Layer, changes: Changes, tmp_path: Path, census: None
) -> None:
    base = model_apply(empty_tree(), BASE)
    expected = {**sketch(describe(base)), **changes}
    wanted = {path: word for path, word in expected.items() if word is not None}
    first, *others = apply_everywhere(layer, tmp_path)
    assert sketch(first) == wanted
    # The model agrees in every attribute, and so do all backends and modes.
    assert first == describe(model_apply(base, layer))
    assert all(other == first for other in others)


@pytest.mark.parametrize("layer", [pytest.param(layer, id=name) for name, layer in REFUSED])
@pytest.mark.parametrize("first", [False, True], ids=["single-pass", "whiteouts-first"])
@pytest.mark.parametrize("kind", [Native, Overlay])
def test_a_layer_is_refused_everywhere(
    layer: Layer, kind: type[Native | Overlay], first: bool, tmp_path: Path, census: None
) -> None:
    backend = kind(str(tmp_path), whiteouts_first=first)
    backend.apply(BASE)
    with pytest.raises(RefusedInput, match=r"layer entry "):
        backend.apply(layer)


def test_the_model_refuses_as_well() -> None:
    # Only what the tree decides: names and xattrs are checked before the model's time.
    base = model_apply(empty_tree(), BASE)
    for name in ("child-of-a-file", "link-to-nothing", "symlink-loop"):
        with pytest.raises(Refused):
            model_apply(base, dict(REFUSED)[name])
