"""Names and sizes as they are drawn: images choose names, and none may steer a reader."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def shown(text: str) -> str:
    """Return a text with backslash escapes for all that does not print.

    That is what XML forbids, what turns the direction of writing, and bytes that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that keeps it at 1 or more."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"
