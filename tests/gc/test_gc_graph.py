"""What keeps what: labels, reachability, explanations."""

from __future__ import annotations

from typing import Final

import pytest

from snapcore import labels
from snapcore.errors import InvalidArgument, NotFound
from snapcore.gc import Edge, Graph, Step, Thing, ThingKind, explain
from snapcore.gc.explaining import find
from snapcore.gc.references import back_references, expired, references
from snapcore.gc.sweep import children_first

IMAGE: Final = Thing(ThingKind.IMAGE, "localhost/a:1")
LEASE: Final = Thing(ThingKind.LEASE, "lease")
A: Final = Thing(ThingKind.CONTENT, "sha256:" + "a" * 64)
B: Final = Thing(ThingKind.CONTENT, "sha256:" + "ab" * 32)
TOP: Final = Thing(ThingKind.SNAPSHOT, "top", "overlay")
BASE: Final = Thing(ThingKind.SNAPSHOT, "base", "overlay")


def graph(
    roots: dict[Thing, str], *edges: tuple[Thing, Edge], flat: frozenset[Thing] = frozenset()
) -> Graph:
    table: dict[Thing, tuple[Edge, ...]] = {}
    for source, edge in edges:
        table[source] = (*table.get(source, ()), edge)
    return Graph(dict.fromkeys((IMAGE, LEASE, A, B, TOP, BASE), 1), roots, flat, table)


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("containerd.io/gc.ref.content", Thing(ThingKind.CONTENT, "v")),
        ("containerd.io/gc.ref.content.l.0", Thing(ThingKind.CONTENT, "v")),
        ("containerd.io/gc.ref.content/any.thing", Thing(ThingKind.CONTENT, "v")),
        ("containerd.io/gc.ref.snapshot.overlay", Thing(ThingKind.SNAPSHOT, "v", "overlay")),
        ("containerd.io/gc.ref.snapshot.a.b/x/y", Thing(ThingKind.SNAPSHOT, "v", "a.b")),
        ("containerd.io/gc.ref.image.x", Thing(ThingKind.IMAGE, "v")),
    ],
)
def test_what_labels_keep(key: str, target: Thing) -> None:
    assert list(references({key: "v"})) == [Edge(target, key)]
    assert list(back_references({key: "v"})) == []
    back = key.replace("gc.ref", "gc.bref")
    assert list(back_references({back: "v"})) == [Edge(target, back)]
    assert list(references({back: "v"})) == []


@pytest.mark.parametrize(
    "key", ["containerd.io/gc.ref.contents", "containerd.io/gc.ref", "containerd.io/gc.root", "a"]
)
def test_other_labels_keep_nothing(key: str) -> None:
    assert list(references({key: "v"})) == []


@pytest.mark.parametrize(
    ("value", "over"),
    [
        ("2001-09-09T01:46:40Z", True),
        ("2001-09-09T01:46:41+00:00", False),
        ("2001-09-09T01:46:40", False),
        ("soon", False),
        ("", False),
    ],
)
def test_when_a_label_ends_a_life(value: str, over: bool) -> None:
    assert expired({labels.GC_EXPIRE: value}, 10**18) is over


def test_everything_below_a_root_is_kept() -> None:
    found = graph(
        {IMAGE: "image"},
        (IMAGE, Edge(A, "target", True)),
        (A, Edge(TOP, "containerd.io/gc.ref.snapshot.overlay")),
        (TOP, Edge(BASE, "parent", True)),
        (BASE, Edge(IMAGE, "loop")),
    )
    assert found.reachable() == {IMAGE, A, TOP, BASE}


def test_below_a_flat_lease_only_structure_holds() -> None:
    edges = (
        (LEASE, Edge(A, "held")),
        (LEASE, Edge(TOP, "held")),
        (A, Edge(B, "containerd.io/gc.ref.content.config")),
        (TOP, Edge(BASE, "parent", True)),
    )
    flat = frozenset({LEASE})
    assert graph({LEASE: "lease"}, *edges, flat=flat).reachable() == {LEASE, A, TOP, BASE}
    assert B in graph({LEASE: "lease"}, *edges).reachable()
    # An image that keeps the same thing keeps all that it names.
    both = graph({LEASE: "lease", IMAGE: "image"}, (IMAGE, Edge(A, "target")), *edges, flat=flat)
    assert B in both.reachable()


def test_the_explanation_is_the_shortest_way_from_a_root() -> None:
    found = graph(
        {IMAGE: "image", LEASE: "lease"},
        (IMAGE, Edge(A, "target", True)),
        (A, Edge(TOP, "ref")),
        (TOP, Edge(BASE, "parent", True)),
        (LEASE, Edge(TOP, "held")),
    )
    assert explain(found, BASE).steps == (
        Step(LEASE, "lease"),
        Step(TOP, "held"),
        Step(BASE, "parent"),
    )
    assert explain(found, IMAGE).steps == (Step(IMAGE, "image"),)


def test_garbage_names_who_would_keep_it() -> None:
    found = explain(graph({}, (TOP, Edge(BASE, "parent", True))), BASE)
    assert not found.kept
    assert found.holders == (Step(TOP, "parent"),)
    with pytest.raises(NotFound, match="snapshot gone of overlay"):
        explain(graph({}), Thing(ThingKind.SNAPSHOT, "gone", "overlay"))


def test_things_are_found_by_id_or_the_beginning_of_a_digest() -> None:
    found = graph({})
    assert find(found, "top") == [TOP]
    assert find(found, "sha256:aaa") == [A]
    assert find(found, "ababab") == [B]
    with pytest.raises(InvalidArgument, match="2 digests"):
        find(found, "sha256:a")
    for text in ("nothing", "aba", "sha512:a"):
        with pytest.raises(NotFound):
            find(found, text)


def test_children_go_before_their_parents() -> None:
    middle = Thing(ThingKind.SNAPSHOT, "middle", "overlay")
    found = graph(
        {},
        (TOP, Edge(middle, "parent", True)),
        (middle, Edge(BASE, "parent", True)),
        (A, Edge(BASE, "ref")),
    )
    for order in ((BASE, middle, TOP), (TOP, BASE, middle), (middle, TOP, BASE)):
        assert list(children_first(found, order)) == [TOP, middle, BASE]
    assert list(children_first(found, (BASE, TOP))) == [TOP, BASE]
