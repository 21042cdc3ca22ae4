"""Walking a path component by component, with symlinks followed inside the root.

Nothing here makes a system call: what is at a component is found by the caller's step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from snapcore.archive.failures import Blocked, Path

MAX_LINKS: Final = 40
"""Most symlinks that one path may lead through (Linux: path_resolution(7))."""

_PARENT: Final = b".."


class Opened(Protocol):
    """A directory on the way.

    Attributes:
        path: canonical path.
    """

    path: Path

    def close(self) -> None:
        """Close it, unless it is the caller's."""


_T = TypeVar("_T", bound=Opened)
Observer = Callable[[Path, bool], None]
"""Told of each component before it is looked at: its canonical path, and whether it is the last."""


def unobserved(path: Path, last: bool) -> None:
    """Be told of a component and do nothing."""
    del path, last


def walk(
    raw: Path,
    root: Callable[[], _T],
    observer: Observer,
    step: Callable[[_T, bytes, Path], _T | bytes],
) -> _T:
    """Return the directory that a path leads to.

    Args:
        raw: the path as a layer names it.
        root: opens the root; `..` of the root is the root.
        observer: told of each component.
        step: returns what an open directory has under a name: a directory, or a symlink's
            target. Its third argument is the canonical path of that name.

    Raises:
        Blocked: more than 40 symlinks.
    """
    todo = list(reversed(raw))
    links = 0
    here = root()
    try:
        while todo:
            name = todo.pop()
            if name == _PARENT:
                # Canonical, so its parent is its path without the last component.
                todo.extend(reversed(here.path[:-1]))
                here.close()
                here = root()
                continue
            path = (*here.path, name)
            observer(path, not todo)
            found = step(here, name, path)
            if isinstance(found, bytes):
                links += 1
                if links > MAX_LINKS:
                    raise Blocked(f"its path leads through more than {MAX_LINKS} symlinks")
                todo.extend(p for p in reversed(found.split(b"/")) if p not in (b"", b"."))
                if not found.startswith(b"/"):
                    continue
                found = root()
            here.close()
            here = found
    except BaseException:
        here.close()
        raise
    return here
