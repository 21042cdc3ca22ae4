"""Lists of checks that are expected to fail, so that the others can be kept passing meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from snapcore.errors import InvalidArgument

SOMETIMES: Final = "?"
"""Ends the name of a check that need not fail each time."""


def parse_xfails(text: str, known: Collection[str]) -> Mapping[str, str]:
    """Parse a list: on each line a check's name and, after blanks, why it fails.

    A `?` after the name means that it fails sometimes, as races do. Lines that are empty or begin
    with `#` say nothing.

    Args:
        text: the list.
        known: names of all checks.

    Returns:
        The reasons, by check; with the `?`.

    Raises:
        InvalidArgument: a line names no check, one that stood before, or gives no reason.
    """
    expected: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, reason = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if name.removesuffix(SOMETIMES) not in known:
            raise InvalidArgument(f"line {number}: there is no check {name!r}; take it off")
        if {name, name + SOMETIMES, name.removesuffix(SOMETIMES)} & expected.keys():
            raise InvalidArgument(f"line {number}: {name!r} stands on the list already")
        if not reason.strip():
            raise InvalidArgument(f"line {number}: say after {name!r} why it fails")
        expected[name] = reason.strip()
    return expected
