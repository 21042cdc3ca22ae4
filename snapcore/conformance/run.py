"""Running checks: each on a fresh state root of its own, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, TypeAlias

from snapcore.conformance.deadline import deadline
from snapcore.conformance.emptying import emptied
from snapcore.conformance.harness import Check, CheckFailed, Harness, LeftOut
from snapcore.conformance.place import empty_place
from snapcore.conformance.xfails import SOMETIMES
from snapcore.snapshots import Labels, Snapshotter

CHECK_SECONDS: Final = 600.0
"""How long a check may take unless somebody says otherwise."""

OpenRoot: TypeAlias = Callable[[str], Snapshotter]
"""Opens the snapshotter on a state root, which may not exist yet."""


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """Failed, as was expected."""
    STALE = "stale"
    """Expected to fail, and did not: take it off the list."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check.

    Attributes:
        check: its name.
        outcome: how it ended.
        reason: why it failed or was left out; "" if it passed.
        seconds: how long it took.
    """

    check: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.outcome not in (Outcome.FAILED, Outcome.STALE)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Attributes:
        open: opens it.
        mountable: as `Harness.mountable`.
        installed: as `Harness.installed`.
        local: as `Harness.local`; if not, whatever the root it is always the same state, which must
            have nothing in it, and is emptied after each check.
        supply: as `Harness.supply`.
    """

    open: OpenRoot
    mountable: bool = True
    installed: bool = True
    local: bool = True
    supply: Labels = field(default_factory=dict)


@contextmanager
def started(subject: Subject, place: str) -> Iterator[Harness]:
    """Open a snapshotter with nothing in it for one check; close and delete it at the end.

    Args:
        subject: what to open.
        place: an empty directory; the state root is made in it.

    Raises:
        FailedPrecondition: it has something in it, or could not be emptied at the end.
        SnapcoreError: whatever opening raises.
    """
    root, work = os.path.join(place, "root"), os.path.join(place, "work")
    os.mkdir(work)
    with ExitStack() as stack:
        stack.callback(empty_place, place)

        def open_one() -> Snapshotter:
            opened = subject.open(root)
            stack.callback(opened.close)
            return opened

        first = open_one()
        if not subject.local:
            stack.enter_context(emptied(first, lambda: subject.open(root)))
        yield Harness(
            first,
            work,
            open_one,
            mountable=subject.mountable,
            installed=subject.installed,
            local=subject.local,
            supply=subject.supply,
        )


def run_check(check: Check, subject: Subject, place: str, seconds: float = CHECK_SECONDS) -> Result:
    """Run one check.

    Args:
        check: the check.
        subject: what is checked.
        place: an empty directory, empty again afterwards.
        seconds: how long it may take.
    """
    begun = time.perf_counter()
    outcome, reason = Outcome.PASSED, ""
    try:
        with deadline(seconds), started(subject, place) as harness:
            reason = check.missing(harness)
            if reason:
                outcome = Outcome.SKIPPED
            else:
                check.function(harness)
    except LeftOut as error:
        outcome, reason = Outcome.SKIPPED, str(error)
    except CheckFailed as error:
        outcome, reason = Outcome.FAILED, str(error)
    except Exception as error:  # noqa: BLE001 - whatever a backend raises is what came of it
        outcome, reason = Outcome.FAILED, f"{type(error).__name__}: {error}"
    return Result(check.name, outcome, reason, time.perf_counter() - begun)


def judged(result: Result, expected: Mapping[str, str]) -> Result:
    """Compare what came of a check with the failures that are expected.

    Args:
        result: what came of it.
        expected: why a check may fail, by its name; as `parse_xfails` returns it.
    """
    sometimes = result.check + SOMETIMES in expected
    if not sometimes and result.check not in expected:
        return result
    why = expected[result.check + SOMETIMES * sometimes]
    if result.outcome is Outcome.FAILED:
        return replace(result, outcome=Outcome.XFAILED, reason=f"{why}: {result.reason}")
    if sometimes and result.outcome is Outcome.PASSED:
        return result
    return replace(
        result,
        outcome=Outcome.STALE,
        reason=f"expected to fail ({why}), and {result.outcome}: take it off the list",
    )


def run_checks(
    checks: Iterable[Check],
    subject: Subject,
    place: str,
    expected: Mapping[str, str],
    seconds: float = CHECK_SECONDS,
) -> Iterator[Result]:
    """Run checks one after another, each in a directory of its own below `place`.

    Args:
        checks: what to run.
        subject: what is checked.
        place: an existing directory.
        expected: why a check may fail, by its name.
        seconds: how long each may take.
    """
    for check in checks:
        inside = os.path.join(place, check.name)
        os.mkdir(inside)
        try:
            yield judged(run_check(check, subject, inside, seconds), expected)
        finally:
            # What a check could not delete is in its result; the next ones go on.
            with suppress(OSError):
                os.rmdir(inside)
