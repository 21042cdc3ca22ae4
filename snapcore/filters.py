r"""containerd's filter language (containerd, pkg/filters), for walks over snapshots, blobs, images.

A filter is a list of selectors joined by commas, all of which must hold; of several filters
one must. A selector is a field path alone (the field is present) or a field path, an operator
and a value:

    name==sha256:aa…        labels."containerd.io/gc.root"        kind!=view,parent~="^sha256:"

Path components are letters, digits, `_` and `-`, or double-quoted. A value is double-quoted
with Go's escapes, or bare up to the next comma or blank; a regular expression may also stand
between two `/` or `|`, where only `\` before that delimiter is an escape. `!=` holds for an
absent field; `~=` searches, unanchored, and takes an absent field as "".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from snapcore.errors import InvalidArgument

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_BARE: Final = re.compile(r"[^\s,]+")
_BLANKS: Final = re.compile(r"\s*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_DELIMITED: Final = re.compile(r"([/|])((?:(?!\1)[^\\]|\\.)*)\1", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_OPERATORS: Final = ("==", "!=", "~=")
_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
}


class Fields(Protocol):
    """How a filter looks at a thing: the value at a field path, None where there is none."""

    def __call__(self, path: tuple[str, ...], /) -> str | None:
        """Return the value at `path`, such as ("labels", "a.b/c")."""


Predicate = Callable[[Fields], bool]


class Pattern(Protocol):
    """A compiled regular expression."""

    def search(self, text: str, /) -> object | None:
        """Return something if it is found anywhere in `text`, else None."""


Patterns: TypeAlias = Callable[[str], Pattern]
"""Compiles a regular expression; raises ValueError, with the reason, where it is none."""


def backtracking(source: str) -> Pattern:
    """Compile by Python's own engine: nothing to install, and time without a bound.

    Raises:
        ValueError: it is no regular expression.
    """
    try:
        return re.compile(source)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def compile_filters(
    filters: Sequence[str], known: Collection[str] = (), patterns: Patterns = backtracking
) -> Predicate:
    """Compile filters into one predicate.

    Args:
        filters: OR-ed; none at all, or an empty one among them, lets everything pass.
        known: the first components that field paths may have; none means any.
        patterns: compiles regular expressions; who takes filters from strangers needs another
            engine than the default.

    Returns:
        The predicate; it is pure and may be used by several threads.

    Raises:
        InvalidArgument: a filter does not parse; the message names it and the position.
    """
    alternatives = tuple(_Parser(text, known, patterns).parse() for text in filters)
    if not alternatives:
        return lambda _fields: True
    return lambda fields: any(
        all(selector.matches(fields) for selector in selectors) for selectors in alternatives
    )


def record_fields(values: Mapping[str, str], labels: Mapping[str, str]) -> Fields:
    """Return the view of a thing that has plain fields and labels.

    Args:
        values: top-level fields; an empty value counts as absent, as in containerd.
        labels: found below `labels`; further components are joined with dots again, so that
            `labels.a.b` and `labels."a.b"` are the same.
    """

    def field(path: tuple[str, ...], /) -> str | None:
        if path[0] == "labels" and len(path) > 1:
            return labels.get(".".join(path[1:]))
        return (values.get(path[0]) or None) if len(path) == 1 else None

    return field


@dataclass(frozen=True, slots=True)
class _Selector:
    path: tuple[str, ...]
    operator: str
    value: str
    pattern: Pattern | None

    def matches(self, fields: Fields) -> bool:
        found = fields(self.path)
        if self.pattern is not None:
            return self.pattern.search(found or "") is not None
        if self.operator == "==":
            return found == self.value
        if self.operator == "!=":
            return (found or "") != self.value
        return found is not None


class _Parser:
    """One pass over one filter."""

    __slots__ = ("_at", "_known", "_patterns", "_text")

    def __init__(self, text: str, known: Collection[str], patterns: Patterns) -> None:
        self._text = text
        self._known = known
        self._patterns = patterns
        self._at = 0

    def parse(self) -> tuple[_Selector, ...]:
        selectors: list[_Selector] = []
        if not self._text.strip():
            return ()
        while True:
            selectors.append(self._selector())
            self._take(_BLANKS)
            if self._at == len(self._text):
                return tuple(selectors)
            if self._text[self._at] != ",":
                raise self._error("expected ',' or the end")
            self._at += 1

    def _selector(self) -> _Selector:
        self._take(_BLANKS)
        start = self._at
        path = [self._component()]
        if self._known and path[0] not in self._known:
            self._at = start
            raise self._error(f"unknown field; there are {', '.join(sorted(self._known))}")
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._component())
        self._take(_BLANKS)
        operator = self._text[self._at : self._at + 2]
        if operator not in _OPERATORS:
            return _Selector(tuple(path), "", "", None)
        self._at += 2
        self._take(_BLANKS)
        if operator == "~=":
            return _Selector(tuple(path), operator, "", self._pattern())
        return _Selector(tuple(path), operator, self._value(), None)

    def _component(self) -> str:
        if self._text.startswith('"', self._at):
            return self._quoted()
        name = self._take(_NAME)
        if name is None:
            raise self._error("expected a field name")
        return name[0]

    def _value(self) -> str:
        if self._text.startswith('"', self._at):
            return self._quoted()
        value = self._take(_BARE)
        if value is None:
            raise self._error("expected a value")
        return value[0]

    def _pattern(self) -> Pattern:
        start = self._at
        delimited = self._take(_DELIMITED)
        if delimited is None:
            source = self._value()
        else:
            source = delimited[2].replace("\\" + delimited[1], delimited[1])
        try:
            return self._patterns(source)
        except ValueError as error:
            self._at = start
            raise self._error(f"bad regular expression: {error}") from error

    def _quoted(self) -> str:
        quoted = self._take(_QUOTED)
        if quoted is None:
            raise self._error("the quote is not closed")
        start = quoted.start(1)

        def unescape(match: re.Match[str]) -> str:
            escape = match[1]
            if len(escape) > 1 and int(escape[1:], 16) <= 0x10FFFF:
                return chr(int(escape[1:], 16))
            if escape not in _SIMPLE:
                self._at = start + match.start()
                raise self._error(f"unknown escape {match[0]!r}")
            return _SIMPLE[escape]

        return _ESCAPE.sub(unescape, quoted[1])

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _error(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"bad filter {self._text!r} at position {self._at}: {what}")
