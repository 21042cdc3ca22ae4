"""Sizes and times as people type them."""

from __future__ import annotations

import re
from typing import Final

import click

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])\Z")
_TIMES: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_size(text: str) -> int:
    """Return the bytes of a size such as `20G`, `1.5GiB` or `1000`; units are powers of 1024.

    Raises:
        click.BadParameter: it is none.
    """
    found = _SIZE.match(text.strip())
    if found is None:
        raise click.BadParameter(f"not a size: {text!r} (want a number with K, M, G or T)")
    return int(float(found[1]) * _SIZES[found[2].upper()])


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a time such as `90s`, `12h` or `7d`.

    Raises:
        click.BadParameter: it is none.
    """
    found = _TIME.match(text.strip())
    if found is None:
        raise click.BadParameter(f"not a time: {text!r} (want a number with s, m, h, d or w)")
    return int(float(found[1]) * _TIMES[found[2]] * 10**9)
