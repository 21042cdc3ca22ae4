"""Races: what two callers do at once ends as one of two orders, and never between them.

Each is run twice: once with the second call in the middle of the first, from its checkpoint,
and some rounds with both let loose at the same moment, over two instances on the same state.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from snapcore.conformance.harness import (
    Harness,
    checks,
    expect,
    expect_equal,
    expect_error,
    read,
    write,
)
from snapcore.errors import AlreadyExists, FailedPrecondition, NotFound, SnapcoreError
from snapcore.snapshots import Capability, Checkpoint, Kind, Snapshotter, no_checkpoint

_ROUNDS: Final = 5
_PATIENCE: Final = 5.0
"""Seconds to wait in a checkpoint for a call that a lock of the backend may hold up."""

_First = Callable[[Snapshotter, Checkpoint], object]
_Second = Callable[[Snapshotter], object]
_Error = type[SnapcoreError]
_Outcome = SnapcoreError | None


class _Meanwhile:
    """A checkpoint that makes another call in the middle of the one it was given to."""

    __slots__ = ("_call", "_thread", "outcome")

    def __init__(self, call: Callable[[], object]) -> None:
        self.outcome: _Outcome = None
        self._call = call
        self._thread = threading.Thread(target=self._run, name="conformance race", daemon=True)

    def __call__(self) -> None:
        if self._thread.ident is None:
            self.begin()
            # A backend may well let it wait until its own call is over.
            self._thread.join(_PATIENCE)

    def begin(self) -> None:
        """Make the call, and do not wait for its end."""
        self._thread.start()

    def finish(self) -> _Outcome:
        """Make the call if no checkpoint did, and return how it ended."""
        self()
        self._thread.join()
        return self.outcome

    def _run(self) -> None:
        self.outcome = _outcome(self._call)


def _outcome(call: Callable[[], object]) -> _Outcome:
    try:
        call()
    except SnapcoreError as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class _Round:
    """One time that two calls are made at once.

    Attributes:
        harness: of the check.
        n: ends the keys and names of this round.
        inside: whether the second call is made in the middle of the first.
    """

    harness: Harness
    n: str
    inside: bool

    def first_wins(
        self, first: _First, second: _Second, errors: tuple[_Error, _Error], what: str
    ) -> bool:
        """Make both calls, check that just one succeeds, and tell whether it is the first.

        Args:
            first: gets the snapshotter and a checkpoint.
            second: gets another instance.
            errors: what each raises if it loses.
            what: what to call it in a failure.
        """
        one, two = self._outcomes(first, second)
        expect((one is None) != (two is None), f"{what}: ended with {one!r} and {two!r}")
        lost, error = (two, errors[1]) if one is None else (one, errors[0])
        expect(isinstance(lost, error), f"{what}: raised {lost!r}, wanted {error.__name__}")
        return one is None

    def _outcomes(self, first: _First, second: _Second) -> tuple[_Outcome, _Outcome]:
        with _other(self.harness) as other:
            if self.inside:
                meanwhile = _Meanwhile(lambda: second(other))
                ended = _outcome(lambda: first(self.harness.snapshotter, meanwhile))
                return ended, meanwhile.finish()
            start = threading.Barrier(2)

            def run() -> None:
                start.wait()
                second(other)

            beside = _Meanwhile(run)
            beside.begin()
            start.wait()
            ended = _outcome(lambda: first(self.harness.snapshotter, no_checkpoint))
            return ended, beside.finish()


@contextmanager
def _other(harness: Harness) -> Iterator[Snapshotter]:
    other = harness.open()
    try:
        yield other
    finally:
        other.close()


def _rounds(harness: Harness) -> Iterator[_Round]:
    for number in range(_ROUNDS + 1):
        yield _Round(harness, f" {number}", inside=number == 0)


def _layer(s: Snapshotter, key: str, file: str, *, parent: str = "") -> str:
    """Prepare an Active that holds a file; return the parent to commit it onto."""
    late = Capability.REBASE in s.capabilities
    s.prepare(key, "" if late else parent)
    target = s.target(key)
    if target.directory:
        write(target.directory, file, file.encode())
    return parent if late else ""


def check_commits_race_for_a_name(harness: Harness) -> None:
    """Two commits under one name onto one parent: one wins, the other's Active stays whole."""
    harness.snapshotter.prepare("layer", "")
    harness.snapshotter.commit("base", "layer")
    for each in _rounds(harness):
        _race_for_a_name(each)


def _race_for_a_name(each: _Round) -> None:
    s, name, one, two = each.harness.snapshotter, f"name{each.n}", f"one{each.n}", f"two{each.n}"
    _layer(s, one, one, parent="base")
    parent = _layer(s, two, two, parent="base")
    first = each.first_wins(
        lambda s, checkpoint: s.commit(name, one, parent=parent, checkpoint=checkpoint),
        lambda s: s.commit(name, two, parent=parent),
        (AlreadyExists, AlreadyExists),
        "commits of a name",
    )
    won, lost = (one, two) if first else (two, one)
    expect_equal(s.stat(name).parent, "base", "parent of what won")
    expect_equal(s.stat(lost).kind, Kind.ACTIVE, "kind of what lost")
    s.commit(f"other{each.n}", lost, parent=parent)
    for given, wanted in ((name, won), (f"other{each.n}", lost)):
        with each.harness.seen(given) as root:
            expect_equal(os.listdir(root), [wanted], f"all of {given!r}")
            expect_equal(read(root, wanted), wanted.encode(), f"the file in {given!r}")


def check_commits_race_for_a_key(harness: Harness) -> None:
    """Two commits of one Active under two names: there is one committed snapshot, and no key."""
    for each in _rounds(harness):
        _race_for_a_key(each, lambda s, name, key: s.commit(name, key))


def check_commit_of_what_goes(harness: Harness) -> None:
    """An Active that is removed while it is committed: one of both happened."""
    for each in _rounds(harness):
        _race_for_a_key(each, lambda s, _name, key: s.remove(key))


def _race_for_a_key(each: _Round, second: Callable[[Snapshotter, str, str], object]) -> None:
    s, key, one, two = each.harness.snapshotter, f"key{each.n}", f"one{each.n}", f"two{each.n}"
    _layer(s, key, "file")
    first = each.first_wins(
        lambda s, checkpoint: s.commit(one, key, checkpoint=checkpoint),
        lambda s: second(s, two, key),
        (NotFound, NotFound),
        "calls that take a key",
    )
    found = {info.name for info in s.walk() if info.name in (key, one, two)}
    expect(found == {one} if first else found <= {two}, f"both calls left {found}")


def check_rebase_onto_what_goes(harness: Harness) -> None:
    """A parent that is removed while a snapshot is committed onto it: one of both happened."""
    for each in _rounds(harness):
        _race_for_a_new_parent(each)


def _race_for_a_new_parent(each: _Round) -> None:
    s, name, key = each.harness.snapshotter, f"name{each.n}", f"key{each.n}"
    parent = _base(s, f"parent{each.n}")
    _layer(s, key, "above")
    first = each.first_wins(
        lambda s, checkpoint: s.commit(name, key, parent=parent, checkpoint=checkpoint),
        lambda s: s.remove(parent),
        (NotFound, FailedPrecondition),
        "rebase and remove",
    )
    if first:
        expect_equal(s.stat(name).parent, parent, "parent of a rebased snapshot")
    else:
        expect_equal((s.stat(key).kind, s.stat(key).parent), (Kind.ACTIVE, ""), "what stayed")
        s.commit(name, key)
    with each.harness.seen(name) as root:
        wanted = ["above", "below"] if first else ["above"]
        expect_equal(sorted(os.listdir(root)), wanted, "what the snapshot shows")


def check_prepare_on_what_goes(harness: Harness) -> None:
    """A parent that is removed while a snapshot is prepared on it: one of both happened."""
    for each in _rounds(harness):
        _race_for_a_parent(each)


def _race_for_a_parent(each: _Round) -> None:
    s, key = each.harness.snapshotter, f"key{each.n}"
    parent = _base(s, f"parent{each.n}")
    first = each.first_wins(
        lambda s, checkpoint: s.prepare(key, parent, checkpoint=checkpoint),
        lambda s: s.remove(parent),
        (NotFound, FailedPrecondition),
        "prepare and remove",
    )
    if first:
        with each.harness.mounted(s.mounts(key)) as root:
            expect_equal(os.listdir(root), ["below"], "what was prepared")
    else:
        with expect_error(NotFound, "stat of what was not prepared"):
            s.stat(key)


def _base(s: Snapshotter, name: str) -> str:
    _layer(s, "layer", "below")
    s.commit(name, "layer")
    return name


CHECKS = (
    *checks(check_commits_race_for_a_name, check_prepare_on_what_goes),
    *checks(check_commits_race_for_a_key, check_commit_of_what_goes, mounts=False),
    *checks(check_rebase_onto_what_goes, needs=(Capability.REBASE,)),
)
