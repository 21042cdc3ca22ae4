"""WWW-Authenticate headers (RFC 9110 §11.6.1; the distribution token specification)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_CHALLENGE_BYTES: Final = 8192
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rf"[\s,]*({_WORD})")
_PARAMETER: Final = re.compile(rf'[\s,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_TOKEN68: Final = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in which a server wants to be convinced.

    Attributes:
        scheme: lower-case, such as `bearer` or `basic`.
        parameters: names are lower-case; values are unquoted.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Parse the value of WWW-Authenticate, several headers joined by a comma.

    What follows the first thing that is not a challenge is left out: a server's mistake in one
    challenge does not hide those before it.

    Args:
        header: the value; more than `MAX_CHALLENGE_BYTES` gives no challenge.
    """
    found: list[Challenge] = []
    if len(header) > MAX_CHALLENGE_BYTES:
        return ()
    at = 0
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            at = parameter.end()
        if not parameters and (opaque := _TOKEN68.match(header, at)):
            at = opaque.end()
        found.append(Challenge(scheme[1].lower(), parameters))
        if header[at : at + 1] not in ("", ",", " ", "\t"):
            break
    return tuple(found)
