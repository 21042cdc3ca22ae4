"""Open directories of the merged tree: for looking, and for writing."""

from __future__ import annotations

import os

from snapcore.archive.failures import Path


class Seen:
    """A directory of the merged tree, open for looking.

    Attributes:
        path: canonical path.
        upper: descriptor in the directory that is written, None if it is not there.
        lower: descriptor in the tree below, None if nothing shines through.
    """

    __slots__ = ("_owned", "lower", "path", "upper")

    def __init__(self, path: Path, upper: int | None, lower: int | None, owned: bool) -> None:
        self.path = path
        self.upper = upper
        self.lower = lower
        self._owned = owned

    def close(self) -> None:
        """Close the descriptors, unless they are the caller's."""
        if self._owned:
            for descriptor in (self.upper, self.lower):
                if descriptor is not None:
                    os.close(descriptor)


class Directory:
    """A directory of the merged tree, open for writing.

    Attributes:
        path: canonical path.
        upper: descriptor in the directory that is written.
        lower: descriptor in the tree below, None if nothing shines through.
        ready: its times are written down and the journal knows that it is used.
        plain: what is made in it inherits neither group nor ACL.
    """

    __slots__ = ("_owned", "lower", "path", "plain", "ready", "upper")

    def __init__(self, path: Path, upper: int, lower: int | None, owned: bool = True) -> None:
        self.path = path
        self.upper = upper
        self.lower = lower
        self.ready = False
        self.plain = False
        self._owned = owned

    def close(self) -> None:
        """Close the descriptors, unless they are the caller's."""
        if self._owned:
            os.close(self.upper)
            if self.lower is not None:
                os.close(self.lower)


def lookup(directory: int, name: bytes) -> os.stat_result | None:
    """Return the status of a name without following it, None if there is none."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
