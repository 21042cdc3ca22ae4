"""Many callers at once: whatever they see can be put in an order that explains all of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from snapcore.conformance.harness import Harness, checks, expect, expect_equal
from snapcore.conformance.history import Call, Event, State, is_linearizable
from snapcore.conformance.peer import Peer, happened
from snapcore.errors import AlreadyExists
from snapcore.snapshots import Kind, Snapshotter

_CALLERS: Final = 3
_CALLS: Final = 10
_ROUNDS: Final = 4


def check_threads_are_linearizable(harness: Harness) -> None:
    """Threads of one process, two of them on one instance, the third on another."""
    s, other = harness.snapshotter, harness.open()
    try:
        for number in range(_ROUNDS):
            events: list[Event] = []
            start = threading.Barrier(_CALLERS)
            threads = [
                # One that deadlocks must not keep the program from ending.
                threading.Thread(
                    target=_run, args=(other if caller else s, calls, start, events), daemon=True
                )
                for caller, calls in enumerate(_scripts(number))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            expect_equal(len(events), _CALLERS * _CALLS, "calls that answered, or failed as told")
            _expect_order(s, events)
    finally:
        other.close()


def check_processes_are_linearizable(harness: Harness) -> None:
    """Processes, each with an instance of its own."""
    s = harness.snapshotter
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(s)) for _ in range(_CALLERS)]
        for peer in peers:
            peer.wait_until_open()
        for number in range(_ROUNDS):
            events: list[Event] = []
            for calls in zip(*_scripts(number), strict=True):
                for peer, call in zip(peers, calls, strict=True):
                    peer.begin(call)
                for peer in peers:
                    event = peer.end()
                    expect(event is not None, "a process has died")
                    assert event is not None
                    events.append(event)
            _expect_order(s, events)


def _scripts(seed: int) -> Iterator[list[Call]]:
    """Make calls for each caller, about few keys and names, so that they meet."""
    chance = random.Random(seed)  # noqa: S311 - the same each time is what is wanted
    names = ("a", "b")
    for _ in range(_CALLERS):
        yield [
            chance.choice(
                (
                    Call("prepare", chance.choice(("k", "l")), parent=chance.choice(("", *names))),
                    Call("prepare", "k"),
                    Call("commit", chance.choice(("k", "l")), chance.choice(names)),
                    Call("remove", chance.choice(("k", "l", *names))),
                )
            )
            for _ in range(_CALLS)
        ]


def _run(
    snapshotter: Snapshotter, calls: list[Call], start: threading.Barrier, events: list[Event]
) -> None:
    start.wait()
    events.extend(happened(snapshotter, call) for call in calls)


def _expect_order(s: Snapshotter, events: list[Event]) -> None:
    """Check a history that began with no snapshots, and leave none behind."""
    end: State = {info.name: (info.kind, info.parent) for info in s.walk()}
    told = "\n".join(
        f"{event.begun}-{event.ended} {event.call} {event.outcome or 'done'}" for event in events
    )
    expect(is_linearizable(events, end), f"no order explains\n{told}\nand then {end}")
    gone: set[str] = set()
    while len(gone) < len(end):
        for name in end.keys() - gone:
            if all(parent != name for key, (_, parent) in end.items() if key not in gone):
                s.remove(name)
                gone.add(name)


def check_commit_while_its_key_becomes_another_snapshots(harness: Harness) -> None:
    """A commit that others overtake says what was true at some moment of it: not NotFound.

    While it works, its snapshot is committed under the same name by others, a new one is made of
    the key, and the name is removed: at no moment were both key and name missing.
    """
    s, other = harness.snapshotter, harness.open()
    s.prepare("key", "")
    overtaken = False

    def overtake() -> None:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            other.commit("name", "key")
            other.prepare("key", "")
            other.remove("name")

    try:
        s.commit("name", "key", checkpoint=overtake)
        expected = {"name": Kind.COMMITTED}
    except AlreadyExists:
        expected = {"key": Kind.ACTIVE}
    finally:
        other.close()
    expect_equal({info.name: info.kind for info in s.walk()}, expected, "snapshots afterwards")


CHECKS = (
    *checks(check_threads_are_linearizable, mounts=False),
    *checks(check_commit_while_its_key_becomes_another_snapshots, mounts=False),
    *checks(check_processes_are_linearizable, mounts=False, peers=True),
)
