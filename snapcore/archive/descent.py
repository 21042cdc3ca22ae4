"""Walking a tree with one open descriptor, however deep it is."""

from __future__ import annotations

import os
from typing import Final

from snapcore.errors import FailedPrecondition

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descent:
    """An open directory that goes down a tree, and up again by `..`, checked by identity.

    Attributes:
        descriptor: the directory where it is.
    """

    def __init__(self, root: str | bytes, *, directory: int | None = None) -> None:
        """Begin at a root.

        Args:
            root: its path.
            directory: open descriptor that a relative path starts from.

        Raises:
            OSError: as open(2).
        """
        self.descriptor = os.open(root, _OPEN, dir_fd=directory)
        self._above: Final[list[tuple[int, int]]] = []

    def down(self, name: bytes) -> None:
        """Enter a directory of the present one.

        Raises:
            OSError: as open(2).
        """
        here = os.fstat(self.descriptor)
        self._move(name)
        self._above.append((here.st_dev, here.st_ino))

    def up(self) -> None:
        """Go back to where `down` was called last.

        Raises:
            FailedPrecondition: the directory was moved meanwhile.
            OSError: as open(2).
        """
        wanted = self._above.pop()
        self._move(b"..")
        found = os.fstat(self.descriptor)
        if (found.st_dev, found.st_ino) != wanted:
            raise FailedPrecondition("a directory was moved while it was read")

    def names(self) -> list[bytes]:
        """Return the names in the present directory.

        Raises:
            OSError: as getdents(2).
        """
        return [os.fsencode(name) for name in os.listdir(self.descriptor)]

    def status(self, name: bytes) -> os.stat_result:
        """Return the status of a name of the present directory.

        Raises:
            OSError: as stat(2).
        """
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.descriptor)

    def _move(self, name: bytes) -> None:
        other = os.open(name, _OPEN, dir_fd=self.descriptor)
        os.close(self.descriptor)
        self.descriptor = other
