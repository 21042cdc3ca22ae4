"""How much an image keeps alone and with others, and what its removal frees."""

from __future__ import annotations

from typing import Final

import pytest

from snapcore.gc import Edge, Graph, Released, Share, Thing, ThingKind, released, shares
from snapcore.labels import GC_REF_CONTENT
from snapcore.metadata import Image
from snapcore.oci import Descriptor, Digest

DIGESTS: Final = {name: Digest.of(name.encode()) for name in "ab"}
ONE, TWO = (Thing(ThingKind.IMAGE, name) for name in ("one", "two"))
A, B = (Thing(ThingKind.CONTENT, str(digest)) for digest in DIGESTS.values())
TOP: Final = Thing(ThingKind.SNAPSHOT, "top", "native")
BASE: Final = Thing(ThingKind.SNAPSHOT, "base", "native")
LEASE: Final = Thing(ThingKind.LEASE, "lease")
SIZES: Final = {ONE: 0, TWO: 0, LEASE: 0, A: 1, B: 2, TOP: 4, BASE: 8}
EDGES: Final = {
    ONE: (Edge(A, "target", True),),
    TWO: (Edge(B, "target", True),),
    A: (Edge(TOP, "snapshot"), Edge(BASE, "snapshot")),
    B: (Edge(BASE, "snapshot"), Edge(Thing(ThingKind.CONTENT, "sha256:absent"), "l.0")),
    LEASE: (Edge(TOP, "held"),),
}


def graph(*roots: Thing) -> Graph:
    return Graph(SIZES, dict.fromkeys(roots, "root"), frozenset(), EDGES)


def image(name: str, label: str = "") -> Image:
    labels = {f"{GC_REF_CONTENT}.x": label} if label else {}
    return Image(name, Descriptor("application/x", DIGESTS[name], 1), labels)


@pytest.mark.parametrize(
    ("roots", "one", "two"),
    [
        ((ONE, TWO), Share(13, 5), Share(10, 2)),
        ((ONE, TWO, LEASE), Share(13, 1), Share(10, 2)),
    ],
)
def test_what_nothing_else_keeps_is_unique(
    roots: tuple[Thing, ...], one: Share, two: Share
) -> None:
    found = shares(graph(*roots))
    assert found == {"one": one, "two": two}
    assert found["one"].shared == one.size - one.unique


@pytest.mark.parametrize(
    ("roots", "removed", "expected"),
    [
        ((TWO,), [image("a")], Released({A: 1, TOP: 4}, {TWO: 8})),
        ((TWO, LEASE), [image("a")], Released({A: 1}, {LEASE: 4, TWO: 8})),
        ((), [image("a"), image("b")], Released({A: 1, B: 2, BASE: 8, TOP: 4}, {})),
        ((), [image("b", str(DIGESTS["a"]))], Released({A: 1, B: 2, BASE: 8, TOP: 4}, {})),
        ((ONE, TWO), [image("a")], Released({}, {ONE: 13, TWO: 8})),
    ],
)
def test_what_a_removal_frees(
    roots: tuple[Thing, ...], removed: list[Image], expected: Released
) -> None:
    found = released(graph(*roots), removed)
    assert found == expected
    assert found.size == sum(expected.garbage.values())
