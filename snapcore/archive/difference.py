"""Comparing two listings of a directory tree (see `digest`), line by line and in little memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")
_NAMES: Final[Mapping[str, str]] = {"sha256": "content", "same": "link"}
_Key: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was recorded.

    Attributes:
        path: as the listing writes it; `.` is the root.
        kind: `missing`, `extra`, `type`, `mode`, `owner`, `time`, `size`, `content`, `target`,
            `device`, `link` (another group of hard links) or `xattr.<name>`.
        recorded: what it was, "" for nothing.
        found: what it is, "" for nothing.
    """

    path: str
    kind: str
    recorded: str
    found: str


def differences(recorded: Iterable[str], found: Iterable[str]) -> Iterator[Difference]:
    """Yield what differs between two listings of the same form, in the listings' order.

    Of a directory that is missing, or is one too many, what is inside is not told as well; of
    something that became something else, nothing but that.

    Args:
        recorded: lines as `tree_listing` gave them.
        found: the same of the tree as it is now.
    """
    lefts, rights = iter(recorded), iter(found)
    left, right = next(lefts, None), next(rights, None)
    told: dict[str, _Key] = {}
    while left is not None or right is not None:
        if left == right:
            left, right = next(lefts, None), next(rights, None)
            continue
        if right is None or (left is not None and _key(left) < _key(right)):
            yield from _alone(str(left), "missing", told)
            left = next(lefts, None)
        elif left is None or _key(right) < _key(left):
            yield from _alone(right, "extra", told)
            right = next(rights, None)
        else:
            if _type(left) != _type(right):
                # What was inside, or is now, goes without saying.
                told["missing"] = told["extra"] = _key(left)
            yield from _changed(left, right)
            left, right = next(lefts, None), next(rights, None)


def _alone(line: str, kind: str, told: dict[str, _Key]) -> Iterator[Difference]:
    key, above = _key(line), told.get(kind)
    if above is not None and key[: len(above)] == above:
        return
    told[kind] = key
    path, what = line.split(" ", 2)[:2]
    yield Difference(path, kind, *((what, "") if kind == "missing" else ("", what)))


def _changed(left: str, right: str) -> Iterator[Difference]:
    path, old = _fields(left)
    _, new = _fields(right)
    if old.get("type") != new.get("type"):
        yield Difference(path, "type", old.get("type", ""), new.get("type", ""))
        return
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name, ""), new.get(name, "")
        # Other bytes go without saying where there are more or fewer.
        shadowed = name == "sha256" and old.get("size") != new.get("size")
        if before != after and not shadowed:
            yield Difference(path, _NAMES.get(name, name), before, after)


def _fields(line: str) -> tuple[str, dict[str, str]]:
    path, *words = line.split(" ")
    fields = dict(zip(("type", "mode", "owner", "time"), words, strict=False))
    for word in words[4:]:
        name, _, value = word.partition("=")
        fields[name] = value
    return path, fields


def _type(line: str) -> str:
    return line.split(" ", 2)[1]


def _key(line: str) -> _Key:
    """Return what listings are sorted by: the raw components of a line's path."""
    path = line.partition(" ")[0]
    if path == ".":
        return ()
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), path.encode())
    return tuple(raw.split(b"/"))
