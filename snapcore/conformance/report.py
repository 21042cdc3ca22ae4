"""What came of all checks, as a document: written as JSON, read again, and joined with others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from snapcore.conformance.run import Outcome, Result
from snapcore.conformance.version import SUITE_VERSION
from snapcore.errors import InvalidArgument
from snapcore.snapshots import CONTRACT_VERSION, OptionValue, Probe


class Graded(msgspec.Struct, frozen=True):
    """What came of all checks of one snapshotter.

    Attributes:
        snapshotter: its name.
        suite: version of the suite that it was checked with.
        contract: version of the contract that it was written for.
        kernel: release of the kernel it ran on.
        capabilities: what it claims there.
        options: what it was opened with.
        results: in the order of the checks.
    """

    snapshotter: str
    suite: str
    contract: int
    kernel: str
    capabilities: tuple[str, ...]
    options: dict[str, OptionValue]
    results: tuple[Result, ...]

    @property
    def good(self) -> bool:
        """Whether nothing has to be done about any result."""
        return all(result.good for result in self.results)

    def counts(self) -> Counter[Outcome]:
        """Count the results by outcome."""
        return Counter(result.outcome for result in self.results)


class Report(msgspec.Struct, frozen=True):
    """What came of the checks of one snapshotter or more.

    Attributes:
        snapshotters: each once or, checked with other options or on other kernels, more often.
        format: of this document.
    """

    snapshotters: tuple[Graded, ...]
    format: int = 1

    def encode(self) -> bytes:
        """Return the report as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def graded(
    name: str, probe: Probe, options: dict[str, OptionValue], results: Sequence[Result]
) -> Graded:
    """Put together what came of the checks of one snapshotter, here and now."""
    return Graded(
        snapshotter=name,
        suite=SUITE_VERSION,
        contract=min(probe.contract, CONTRACT_VERSION),
        kernel=os.uname().release,
        capabilities=tuple(sorted(probe.capabilities)),
        options=options,
        results=tuple(results),
    )


def decode(data: bytes, what: str) -> Report:
    """Parse a report.

    Args:
        data: JSON that `Report.encode` made.
        what: names it in a message.

    Raises:
        InvalidArgument: it is no such report.
    """
    try:
        report = msgspec.json.decode(data, type=Report)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{what} is no report of conformance checks: {error}") from error
    if report.format != 1:
        raise InvalidArgument(f"{what} has format {report.format}; this version reads format 1")
    return report


def joined(reports: Iterable[Report]) -> Report:
    """Return one report with the snapshotters of several, in the order given."""
    return Report(tuple(each for report in reports for each in report.snapshotters))
