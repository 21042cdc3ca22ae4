"""Looking into one tree that nobody changes: the merged tree below a layer, or a layer's own."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from snapcore.archive.deferred import open_directory
from snapcore.archive.failures import Blocked, Missing, Path
from snapcore.archive.handles import lookup
from snapcore.archive.walk import unobserved, walk

_OPEN_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTHING: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Way:
    """How a path was resolved.

    Attributes:
        path: the canonical path of the directory that it leads to.
        directories: canonical paths of all directories on the way, that one included, the root
            not.
        links: canonical paths of the symlinks on the way.
    """

    path: Path
    directories: frozenset[Path]
    links: tuple[Path, ...]


class Looking:
    """Looks into the tree below an open directory."""

    def __init__(self, root: int) -> None:
        """Look below the descriptor `root`."""
        self._root: Final = root

    def status(self, path: Path) -> os.stat_result | None:
        """Return the status of a canonical path; None if it is not there.

        Raises:
            OSError: as open(2) and stat(2).
        """
        if not path:
            return os.fstat(self._root)
        directory = self.open(path[:-1])
        if directory is None:
            return None
        try:
            return lookup(directory, path[-1])
        finally:
            os.close(directory)

    def open(self, path: Path) -> int | None:
        """Open a directory by its canonical path; None if there is none.

        Raises:
            OSError: as open(2).
        """
        try:
            return open_directory(self._root, path)
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise

    def way(self, raw: Path) -> Way:
        """Resolve the path of a directory, following symlinks inside the root.

        Raises:
            Blocked: it does not exist, or leads through what is not a directory.
            OSError: as open(2).
        """
        noting = _Noting(self._root)
        place = walk(raw, noting.root, unobserved, noting.step)
        place.close()
        return Way(place.path, frozenset(noting.directories), tuple(noting.links))


class _Place:
    """An open directory."""

    __slots__ = ("_owned", "descriptor", "path")

    def __init__(self, path: Path, descriptor: int, owned: bool = True) -> None:
        self.path = path
        self.descriptor = descriptor
        self._owned = owned

    def close(self) -> None:
        if self._owned:
            os.close(self.descriptor)


class _Noting:
    """The steps of one walk, which writes down what it goes through."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.directories: list[Path] = []
        self.links: list[Path] = []

    def root(self) -> _Place:
        return _Place((), self._root, owned=False)

    def step(self, here: _Place, name: bytes, path: Path) -> _Place | bytes:
        try:
            descriptor = os.open(name, _OPEN_PATH, dir_fd=here.descriptor)
        except FileNotFoundError as error:
            raise Missing(f"{name[:100]!r} on its way does not exist") from error
        except OSError as error:
            return self._other(error, here, name, path)
        self.directories.append(path)
        return _Place(path, descriptor)

    def _other(self, error: OSError, here: _Place, name: bytes, path: Path) -> bytes:
        if error.errno == errno.ENAMETOOLONG:
            raise Blocked("a symlink on its way names what no filesystem can hold") from error
        if error.errno not in _NOTHING:
            raise error
        status = os.stat(name, dir_fd=here.descriptor, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            raise Blocked(f"{name[:100]!r} on its way is not a directory") from error
        self.links.append(path)
        return os.readlink(name, dir_fd=here.descriptor)
