"""Every hostile layer, through the whole unpacker of every backend: one verdict, no trace.

Each case is the upper layer of a two-layer image. It is imported by nodes that live on a small
disk, with workers of little memory and a canary tree beside their roots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from support import tars
from support.hostile import LAYERS
from support.hostile.case import LINKS, HostileLayer, accepted, base, encode, with_canary
from support.hostile.ground import MIB, Disk, Ground, Outcome, ground, small_disk
from support.layout import Layer, LayoutBuilder
from support.tree_model import Tree, describe, empty_tree, model_apply, sketch

from snapcore.oci.descriptor import OCI_LAYER

pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("hostile-layers")]
BACKENDS: Final = ("native", "overlay", "fuse", "erofs")
NOTHING: Final = "docker.io/example/nothing:latest"
GROWTH: Final = 9 * MIB
"""What a node may take more when all images are gone again: two write-ahead logs of 4 MiB."""
FULL: Final = 40 * MIB
ALL: Final = [
    pytest.param(case, id=case.name, marks=[pytest.mark.long] if case.shared else [])
    for case in LAYERS
]


@dataclass(frozen=True, slots=True)
class Place:
    """A disk, and a node of each backend on it."""

    disk: Disk
    grounds: Mapping[str, Ground]
    below: Tree

    @property
    def canary(self) -> bytes:
        """The path of the canary, as links have it."""
        return str(self.disk.canary).encode()

    def outcomes(self, case: HostileLayer, backends: Sequence[str], *lead: bytes) -> list[Outcome]:
        """Try a case; `lead` goes before the entries of its base layer."""
        name = f"example/{LAYERS.index(case)}{'-both' * bool(lead)}:latest"
        with TemporaryDirectory(dir=self.disk.place) as layout:
            build(Path(layout), case, self.canary, *lead)
            outcomes = [self.grounds[backend].load(layout, name) for backend in backends]
        self.disk.check_canary()
        if self.disk.used() > FULL:
            self.clear()
        return outcomes

    def clear(self) -> None:
        """Delete all images but the one whose base layer the others share."""
        for each in self.grounds.values():
            for image in each.node.images.list():
                if image.name != NOTHING:
                    each.node.images.remove(image.name)
            each.node.garbage.collect()
            assert len(each.snapshots()) == 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Open the nodes; at the end delete every image, and see that the space comes back."""
    top = tmp_path_factory.mktemp("hostile")
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(top))
        canary = str(disk.canary).encode()
        below = model_apply(empty_tree(), with_canary(base(canary), canary))
        grounds = {name: stack.enter_context(ground(top / name, name)) for name in BACKENDS}
        with TemporaryDirectory(dir=top) as layout:
            build(Path(layout), accepted("nothing", "", []), canary)
            for each in grounds.values():
                assert each.load(layout, NOTHING).refusal is None
        before = disk.used()
        made = Place(disk, grounds, below)
        yield made
        made.clear()
        assert disk.used() - before < len(grounds) * GROWTH


def build(directory: Path, case: HostileLayer, canary: bytes, *lead: bytes) -> None:
    """Make the image of a case in an empty directory."""
    builder = LayoutBuilder(directory)
    packed = case.pack(canary)
    media_type = OCI_LAYER + {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[packed.compression]
    layer = Layer(builder.add_blob(packed.blob, media_type), packed.diff_id)
    builder.add_image("latest", [builder.add_layer(encode(base(canary), canary, *lead)), layer])


@pytest.mark.parametrize("case", ALL)
def test_a_hostile_layer_has_one_verdict_and_leaves_no_trace(
    case: HostileLayer, place: Place
) -> None:
    check_verdict(case, place.outcomes(case, BACKENDS), place)


@pytest.mark.long
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in LAYERS])
def test_it_is_the_same_where_both_layers_are_applied_at_once(
    case: HostileLayer, place: Place
) -> None:
    # A comment changes the base layer's diff ID and nothing else: both layers are to be made.
    comment = tars.pax([(b"comment", case.name.encode())], type=b"g")
    check_verdict(case, place.outcomes(case, ["overlay"], comment), place)


def test_the_catalogue_is_as_large_as_it_says_and_no_case_hides_another() -> None:
    assert len(LAYERS) >= 120
    assert all(case.attacks and "\n" not in case.attacks for case in LAYERS)
    # Of a diff ID whose snapshot is there nobody would look at the layer.
    good = [case.pack(b"/canary").diff_id for case in LAYERS if not case.refusal]
    others = [case.pack(b"/canary").diff_id for case in LAYERS if case.refusal]
    assert len(set(good)) == len(good)
    assert not set(good) & set(others)


def check_verdict(case: HostileLayer, outcomes: Sequence[Outcome], place: Place) -> None:
    """Fail unless all outcomes are what the catalogue says."""
    assert [outcome.refusal for outcome in outcomes] == [case.refusal] * len(outcomes), outcomes
    if case.refusal:
        for outcome in outcomes:
            assert case.says in outcome.message
            assert "layer sha256:" in outcome.message
        return
    shown = describe(model_apply(place.below, with_canary(case.meaning, place.canary)))
    for outcome in outcomes:
        assert outcome.tree == shown
    assert len({outcome.digest for outcome in outcomes}) == 1
    if case.changes is not None:
        expected = {**sketch(describe(place.below)), **case.changes, **dict.fromkeys(LINKS)}
        wanted = {path: word for path, word in expected.items() if word is not None}
        found = sketch(outcomes[0].tree)
        assert {path: word for path, word in found.items() if path not in LINKS} == wanted
