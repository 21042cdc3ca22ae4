"""Histories of calls that were made at once, and whether some order explains them all.

A history is linearizable if each call can be given a moment between its begin and its end, so
that the calls, made one after another at those moments, end as they did (Herlihy and Wing 1990;
the search is Wing and Gong's, with what was tried remembered).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from snapcore.errors import SnapcoreError
from snapcore.snapshots import Kind, Snapshotter

Hook: TypeAlias = Literal["prepare", "commit", "remove", "cleanup"]
State: TypeAlias = Mapping[str, tuple[Kind, str]]
"""Kind and parent of each snapshot, by key or name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a snapshotter.

    Attributes:
        hook: the method.
        key: its key; "" for cleanup.
        name: what commit calls it.
        parent: of prepare and commit.
    """

    hook: Hook
    key: str = ""
    name: str = ""
    parent: str = ""

    def make(self, snapshotter: Snapshotter) -> str:
        """Make the call; return the class of the error that it raised, "" for none."""
        try:
            match self.hook:
                case "prepare":
                    snapshotter.prepare(self.key, self.parent, passing=True)
                case "commit":
                    snapshotter.commit(self.name, self.key, parent=self.parent)
                case "remove":
                    snapshotter.remove(self.key)
                case "cleanup":
                    snapshotter.cleanup()
        except SnapcoreError as error:
            return type(error).__name__
        return ""

    def expected(self, state: State) -> tuple[str, State]:
        """Return how the call ends in a state, by the contract, and the state afterwards."""
        match self.hook:
            case "prepare":
                return self._prepare(state)
            case "commit":
                return self._commit(state)
            case "remove":
                return self._remove(state)
            case "cleanup":
                return "", state

    def _prepare(self, state: State) -> tuple[str, State]:
        if self.parent and self.parent not in state:
            return "NotFound", state
        if self.parent and state[self.parent][0] is not Kind.COMMITTED:
            return "InvalidArgument", state
        if self.key in state:
            return "AlreadyExists", state
        return "", {**state, self.key: (Kind.ACTIVE, self.parent)}

    def _commit(self, state: State) -> tuple[str, State]:
        if self.name in state:
            return "AlreadyExists", state
        if self.key not in state:
            return "NotFound", state
        if state[self.key][0] is not Kind.ACTIVE:
            return "FailedPrecondition", state
        rest = {key: value for key, value in state.items() if key != self.key}
        return "", {**rest, self.name: (Kind.COMMITTED, self.parent or state[self.key][1])}

    def _remove(self, state: State) -> tuple[str, State]:
        if self.key not in state:
            return "NotFound", state
        if any(parent == self.key for _, parent in state.values()):
            return "FailedPrecondition", state
        return "", {key: value for key, value in state.items() if key != self.key}


@dataclass(frozen=True, slots=True)
class Event:
    """A call that was made.

    Attributes:
        call: the call.
        outcome: the class of the error that it raised, "" for none.
        begun: when, by the monotonic clock of the machine, in nanoseconds.
        ended: when.
    """

    call: Call
    outcome: str
    begun: int
    ended: int


def is_linearizable(events: Iterable[Event], end: State) -> bool:
    """Tell whether some order of the calls explains all outcomes, and the state at the end.

    Args:
        events: all that happened, from no snapshots at all.
        end: what there was when all calls had ended.
    """
    history = tuple(sorted(events, key=lambda event: event.begun))
    tried: set[tuple[frozenset[int], frozenset[tuple[str, tuple[Kind, str]]]]] = set()
    beginning: State = {}
    todo = [(frozenset(range(len(history))), beginning)]
    while todo:
        left, state = todo.pop()
        if not left:
            if dict(state) == dict(end):
                return True
            continue
        seen = (left, frozenset(state.items()))
        if seen in tried:
            continue
        tried.add(seen)
        # What began after another had ended cannot come before it.
        first_end = min(history[index].ended for index in left)
        for index in left:
            event = history[index]
            outcome, following = event.call.expected(state)
            if event.begun <= first_end and outcome == event.outcome:
                todo.append((left - {index}, following))
    return False
