"""Names of tar entries, split into components by the rules of effective names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from snapcore.errors import RefusedInput

MAX_COMPONENT: Final = 255
"""NAME_MAX of limits.h."""
MAX_PATH: Final = 4095
"""PATH_MAX of limits.h without the NUL: nothing could open a longer path by name."""


class NameSplitter:
    """Splits names; remembers the last parent's components, since siblings come together."""

    def __init__(self, depth: int, refuse: Callable[[str], RefusedInput]) -> None:
        """Allow `depth` components; `refuse` makes the error that names the place."""
        self._depth = depth
        self._refuse = refuse
        self._parent: bytes | None = None
        self._parent_parts: tuple[bytes, ...] = ()

    def split(self, raw: bytes) -> tuple[bytes, ...]:
        """Return the components; leading and repeated `/` and every `.` are dropped, () is root.

        Raises:
            RefusedInput: `..` anywhere, a component past 255 bytes, a path past 4095 bytes or
                past the depth.
        """
        trimmed = raw.rstrip(b"/")
        parent, _, last = trimmed.rpartition(b"/")
        if (
            parent == self._parent
            and last not in (b".", b"..", b"")
            and len(last) <= MAX_COMPONENT
            and len(trimmed) <= MAX_PATH
        ):
            return (*self._parent_parts, last)
        parts = tuple([part for part in trimmed.split(b"/") if part not in (b"", b".")])
        self._check(parts)
        if parts and parts[-1] == last:
            self._parent, self._parent_parts = parent, parts[:-1]
        return parts

    def _check(self, parts: tuple[bytes, ...]) -> None:
        if b".." in parts:
            raise self._refuse("'..' in a name")
        if len(parts) > self._depth:
            raise self._refuse(f"a name of more than {self._depth} components")
        if any(len(part) > MAX_COMPONENT for part in parts):
            raise self._refuse(f"a name's component is longer than {MAX_COMPONENT} bytes")
        if sum(map(len, parts)) + len(parts) - 1 > MAX_PATH:
            raise self._refuse(f"a name is longer than {MAX_PATH} bytes")
