"""Which hosts a `[[node]]` table is for."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from snapcore.config.keys import hint, wrong_type
from snapcore.errors import InvalidArgument

_COMPARISON: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)\s*\Z")
_RELEASE: Final = re.compile(r"\d+(?:\.\d+)*")
_KEYS: Final = ("hostname", "kernel", "labels")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of the host that a configuration is loaded for.

    Attributes:
        hostname: as uname(2) has it.
        kernel: its release, such as `6.1.0-18-amd64`.
        labels: what the operator calls this node.
    """

    hostname: str = ""
    kernel: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KernelRule:
    """One comparison of the kernel's version.

    Attributes:
        operator: `>=`, `>`, `<=`, `<`, `==` or `!=`.
        version: numbers; missing ones count as 0.
    """

    operator: str
    version: tuple[int, ...]

    def holds(self, release: str) -> bool:
        """Tell whether a kernel release satisfies the rule; an unreadable one does not."""
        numbers = _RELEASE.match(release)
        if numbers is None:
            return False
        order = _compare(_version(numbers[0]), self.version)
        return {
            ">=": order >= 0,
            ">": order > 0,
            "<=": order <= 0,
            "<": order < 0,
            "==": order == 0,
            "!=": order != 0,
        }[self.operator]


@dataclass(frozen=True, slots=True)
class NodeMatch:
    """The conditions of one `[[node]]` table, all of which must hold. None at all: every host.

    Attributes:
        hostname: a shell pattern, "" for any.
        kernel: comparisons, such as those of `>=6.7,<7`.
        labels: labels that the node must have, with these values.
    """

    hostname: str = ""
    kernel: tuple[KernelRule, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, facts: HostFacts) -> bool:
        """Tell whether a host satisfies every condition."""
        return (
            (not self.hostname or fnmatch.fnmatchcase(facts.hostname, self.hostname))
            and all(rule.holds(facts.kernel) for rule in self.kernel)
            and all(facts.labels.get(key) == value for key, value in self.labels.items())
        )


def parse_match(table: Mapping[str, object], where: str) -> NodeMatch:
    """Parse the `match` table of a `[[node]]` table.

    Args:
        table: as TOML gives it.
        where: names the file and the node table in messages.

    Raises:
        InvalidArgument: an unknown key, a value of another type, or a malformed comparison.
    """
    for key in table:
        if key not in _KEYS:
            raise InvalidArgument(f"{where}: unknown key 'match.{key}' ({hint(key, _KEYS)})")
    labels = table.get("labels", {})
    if not isinstance(labels, dict):
        raise wrong_type(where, "match.labels", "a table", labels)
    return NodeMatch(
        _string(table.get("hostname", ""), "match.hostname", where),
        parse_kernel(_string(table.get("kernel", ""), "match.kernel", where), where),
        {key: _string(value, f"match.labels.{key}", where) for key, value in labels.items()},
    )


def parse_kernel(text: str, where: str) -> tuple[KernelRule, ...]:
    """Parse comma-separated comparisons, such as `>=6.7,<7`; "" gives none.

    Raises:
        InvalidArgument: a part is not a comparison.
    """
    rules = []
    for part in text.split(",") if text else ():
        found = _COMPARISON.match(part)
        if found is None:
            raise InvalidArgument(
                f"{where}: 'match.kernel' is {text!r}; want comparisons such as '>=6.7,<7'"
            )
        rules.append(KernelRule(found[1], _version(found[2])))
    return tuple(rules)


def _string(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(where, key, "a string", value)
    return value


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _compare(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    for one, other in itertools.zip_longest(left, right, fillvalue=0):
        if one != other:
            return 1 if one > other else -1
    return 0
