"""Why a thing is kept: the shortest way to it from a root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snapcore.errors import InvalidArgument, NotFound
from snapcore.gc.graph import Graph, Thing


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an explanation.

    Attributes:
        thing: who is kept.
        because: for a root what makes it one; else the label by which the step before keeps it.
    """

    thing: Thing
    because: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one thing is kept, or that it is not.

    Attributes:
        thing: what was asked for.
        steps: from a root down to the thing; () if it is garbage.
        holders: who would keep it, if something kept them; only for garbage.
    """

    thing: Thing
    steps: tuple[Step, ...]
    holders: tuple[Step, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether something keeps it."""
        return bool(self.steps)


def explain(graph: Graph, thing: Thing) -> Explanation:
    """Say what keeps a thing.

    Raises:
        NotFound: it is not there.
    """
    if thing not in graph.things:
        raise NotFound(f"there is no {thing} on this node")
    paths = graph.paths()
    if thing not in paths:
        return Explanation(thing, (), _holders(graph, thing))
    steps: list[Step] = []
    at: Thing | None = thing
    while at is not None:
        before = paths[at]
        steps.append(Step(at, graph.roots[at] if before is None else before[1].label))
        at = before[0] if before else None
    return Explanation(thing, tuple(reversed(steps)))


def find(graph: Graph, text: str) -> Sequence[Thing]:
    """Return the things that a user may mean: by whole id, or by the beginning of a digest.

    Raises:
        NotFound: nothing has such an id.
        InvalidArgument: the beginning fits several digests.
    """
    exact = sorted(thing for thing in graph.things if thing.id == text)
    if exact:
        return exact
    begun = sorted(thing for thing in graph.things if _begins(thing.id, text))
    ids = {thing.id for thing in begun}
    if len(ids) > 1:
        raise InvalidArgument(f"{text!r} is the beginning of {len(ids)} digests; write more of it")
    if not begun:
        raise NotFound(f"nothing on this node has the id {text!r}")
    return begun


def _begins(digest: str, text: str) -> bool:
    _, colon, value = digest.partition(":")
    return bool(colon) and len(text) >= 6 and (digest.startswith(text) or value.startswith(text))


def _holders(graph: Graph, thing: Thing) -> tuple[Step, ...]:
    return tuple(
        sorted(
            (
                Step(source, edge.label)
                for source, edges in graph.edges.items()
                if source in graph.things
                for edge in edges
                if edge.target == thing
            ),
            key=lambda step: step.thing,
        )
    )
