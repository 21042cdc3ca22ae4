"""A wrapper around a snapshotter whose root cannot be written: what would write refuses."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Final

from snapcore.errors import PermissionDenied
from snapcore.snapshots import hookimpl

_WRITING: Final = (
    "update", "prepare", "view", "commit", "remove", "mark_broken", "flush", "cleanup",
)  # fmt: skip


class ReadOnly:
    """Refuses every hook that writes, before the backend hears of it."""

    def __init__(self, name: str, root: str, options: Mapping[str, object]) -> None:
        """Make the wrapper of one snapshotter; see `WrapperFactory`."""
        del options
        for hook in _WRITING:
            setattr(self, hook, hookimpl(wrapper=True)(_refusing(name, root, hook)))


def _refusing(name: str, root: str, hook: str) -> Callable[[], Generator[None, object, object]]:
    def refuse() -> Generator[None, object, object]:
        _refuse(f"snapshotter {name!r}: {hook} would write below {root!r}, which is read-only here")
        # Never reached, and needed: a wrapper is a generator (pluggy).
        return (yield)

    return refuse


def _refuse(message: str) -> None:
    raise PermissionDenied(message)
