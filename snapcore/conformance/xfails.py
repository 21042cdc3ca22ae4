"""Lists of checks that are expected to fail, so that the others can be kept passing meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from snapcore.errors import InvalidArgument


def parse_xfails(text: str, known: Collection[str]) -> Mapping[str, str]:
    """Parse a list: on each line a check's name and, after blanks, why it fails.

    Lines that are empty or begin with `#` say nothing.

    Args:
        text: the list.
        known: names of all checks.

    Returns:
        The reasons, by check.

    Raises:
        InvalidArgument: a line names no check, one that stood before, or gives no reason.
    """
    expected: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, reason = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if name not in known:
            raise InvalidArgument(f"line {number}: there is no check {name!r}; take it off")
        if name in expected:
            raise InvalidArgument(f"line {number}: {name!r} stands on the list already")
        if not reason.strip():
            raise InvalidArgument(f"line {number}: say after {name!r} why it fails")
        expected[name] = reason.strip()
    return expected
