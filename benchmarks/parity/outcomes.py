"""What became of an image on one side, and in which way its tree differs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from support.parity import ParityImage, model_listing

from snapcore.archive import tree_listing
from snapcore.errors import SnapcoreError

Verdict = Literal["agrees", "differs", "refuses"]
_COMMON: Final = ("kinds", "modes", "owners", "times")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN: Final = 240
_NAMED: Final = {"xattr": "xattrs", "same": "links"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image on one side.

    Attributes:
        number: of the image.
        kind: the class of the image.
        side: who unpacked it.
        verdict: what came of it.
        ways: in which its tree differs, sorted.
        detail: a line in which it differs, or why it was refused.
    """

    number: int
    kind: str
    side: str
    verdict: Verdict
    ways: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SideFacts:
    """A side of the comparison, or why it is none.

    Attributes:
        name: in the table.
        version: as it says of itself.
        missing: why it is left out; "" if it is not.
    """

    name: str
    version: str
    missing: str = ""


def look(side: str, image: ParityImage, root: str) -> Outcome:
    """Return how a directory compares with what an image means.

    The root's own attributes count only if a layer has an entry for it: the specification does
    not say what they are otherwise.
    """
    meant = _by_path(model_listing(image.tree))
    try:
        found = _by_path(tree_listing(root))
    except SnapcoreError as error:
        ghost = ("names that nothing is behind",)
        return Outcome(image.number, image.kind, side, "differs", ghost, str(error))
    if all(item.path for layer in image.layers for item, _ in layer):
        meant["."] = found["."] = ["directory"]
    wrong = [path for path in sorted({*meant, *found}) if meant.get(path) != found.get(path)]
    if not wrong:
        return Outcome(image.number, image.kind, side, "agrees")
    ways = {way for path in wrong for way in _ways(meant.get(path), found.get(path))}
    first = f"{wrong[0]}: {meant.get(wrong[0])} is meant, {found.get(wrong[0])} is there"
    return Outcome(image.number, image.kind, side, "differs", tuple(sorted(ways)), first)


def reason(said: str, place: str) -> str:
    """Return why a program refused, without what differs from run to run."""
    _, _, after = said.partition(" failed: ")
    *_, last = ("it said nothing", *(after or said).replace(place, "…").splitlines())
    return _DIGEST.sub("…", last)[-_SHOWN:]


def _by_path(lines: Iterable[str]) -> dict[str, list[str]]:
    words = (line.split(" ") for line in lines if not line.startswith("#"))
    return {path: rest for path, *rest in words}


def _ways(meant: Sequence[str] | None, found: Sequence[str] | None) -> set[str]:
    """Return in which ways two lines of a path differ."""
    if found is None:
        return {"missing names"}
    if meant is None:
        return {"names too many"}
    if meant[0] != found[0]:
        return {"kinds"}
    ways = {way for way, one, other in zip(_COMMON, meant, found, strict=False) if one != other}
    if meant[0] == "directory" and "times" in ways:
        ways = ways - {"times"} | {"directories' times"}
    for word in set(meant[len(_COMMON) :]) ^ set(found[len(_COMMON) :]):
        ways.add(_NAMED.get(word.partition("=")[0].partition(".")[0], "content"))
    return ways


def table(outcomes: Sequence[Outcome], sides: Sequence[str]) -> str:
    """Return who agrees with the model, class by class, as a markdown table."""
    numbers: dict[str, set[int]] = {}
    for outcome in outcomes:
        numbers.setdefault(outcome.kind, set()).add(outcome.number)
    lines = [f"| images | of | {' | '.join(sides)} |", f"| --- | --- |{' --- |' * len(sides)}"]
    rows = [
        (kind, count, [o for o in outcomes if o.kind == kind])
        for kind, count in ((kind, len(each)) for kind, each in numbers.items())
    ]
    rows.append(("**all**", sum(count for _, count, _ in rows), list(outcomes)))
    for kind, count, mine in rows:
        cells = (_cell([o for o in mine if o.side == side], count) for side in sides)
        lines.append(f"| {kind} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(outcomes: Sequence[Outcome], count: int) -> str:
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    if verdicts["agrees"] == count:
        return "all agree"
    ways = Counter(way for outcome in outcomes for way in outcome.ways)
    words = [f"{verdicts['agrees']} agree"]
    if verdicts["differs"]:
        most = ", ".join(f"{way} {number}" for way, number in ways.most_common())
        words.append(f"{verdicts['differs']} differ ({most})")
    if verdicts["refuses"]:
        words.append(f"{verdicts['refuses']} refused")
    return "; ".join(words)


def refusals(outcomes: Sequence[Outcome], sides: Sequence[str]) -> str:
    """Return why images were refused, the most frequent reason of each side first."""
    lines = []
    for side in sides:
        reasons: dict[str, list[int]] = {}
        for outcome in outcomes:
            if outcome.side == side and outcome.verdict == "refuses":
                reasons.setdefault(outcome.kind, []).append(outcome.number)
        lines += [
            f"- {side} refused {len(numbers)} of {kind!r}, such as image {numbers[0]}:"
            f" {next(o.detail for o in outcomes if (o.side, o.number) == (side, numbers[0]))}"
            for kind, numbers in reasons.items()
        ]
    return "\n".join(lines)
