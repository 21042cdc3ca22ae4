"""The own tree of an unpacked layer: an upper directory of overlayfs, read and never written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, Never

from snapcore.archive.deferred import open_directory
from snapcore.archive.failures import Path
from snapcore.archive.handles import lookup
from snapcore.archive.metadata import Xattrs, node_place, read_xattrs
from snapcore.archive.virtual.types import WHITEOUT, Attributes, Leaf, Whiteout
from snapcore.oci.whiteout import WhiteoutStyle

_NO_MARK: Final = (errno.ENODATA, errno.ENOTSUP)


class DiskLayer:
    """A layer that was unpacked into a directory.

    Its leaves have no place: where their bytes are is a matter of files, which may move.
    """

    def __init__(self, directory: int, style: WhiteoutStyle) -> None:
        """Read below the descriptor `directory`, which stays the caller's and open.

        Args:
            directory: the layer's own directory, which nobody changes.
            style: how its deletions are written.
        """
        self.directory: Final = directory
        self.mark: Final = style.opaque_xattr
        self._linked: dict[tuple[int, int], Leaf[Never]] = {}

    @property
    def root(self) -> DiskDirectory:
        """Its root directory.

        Raises:
            OSError: as open(2), stat(2) and listxattr(2).
        """
        return DiskDirectory(self, ())

    def leaf(self, directory: int, name: bytes, status: os.stat_result) -> Leaf[Never]:
        """Return a node that is no directory; one object for all names of an inode.

        Raises:
            OSError: as readlink(2) and listxattr(2).
        """
        if status.st_nlink < 2:
            return _read_leaf(directory, name, status)
        key = (status.st_dev, status.st_ino)
        found = self._linked.get(key)
        if found is None:
            found = self._linked[key] = _read_leaf(directory, name, status)
        return found


class DiskDirectory:
    """A directory of an unpacked layer; a `LayerDirectory`.

    Attributes:
        attributes: owner, mode, time and xattrs.
        opaque: whether nothing of the layers below shines through.
    """

    __slots__ = ("_layer", "_path", "attributes", "opaque")

    def __init__(self, layer: DiskLayer, path: Path) -> None:
        """Read the attributes of the directory at a canonical path."""
        self._layer: Final = layer
        self._path: Final = path
        with self._opened() as directory:
            status = os.fstat(directory)
            xattrs = _sorted(read_xattrs(directory))
            self.opaque: Final = _is_marked(directory, layer.mark)
        self.attributes: Final = Attributes(
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            xattrs,
        )

    def lookup(
        self, name: bytes
    ) -> DiskDirectory | Leaf[Never] | Literal[Whiteout.WHITEOUT] | None:
        """See `LayerDirectory.lookup`.

        Raises:
            OSError: as open(2), stat(2), readlink(2) and listxattr(2).
        """
        with self._opened() as directory:
            status = lookup(directory, name)
            if status is None:
                return None
            if stat.S_ISDIR(status.st_mode):
                return DiskDirectory(self._layer, (*self._path, name))
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return WHITEOUT
            return self._layer.leaf(directory, name, status)

    def names(self) -> Sequence[bytes]:
        """See `LayerDirectory.names`.

        Raises:
            OSError: as open(2) and getdents(2).
        """
        with self._opened() as directory:
            return [os.fsencode(name) for name in os.listdir(directory)]

    @contextmanager
    def _opened(self) -> Iterator[int]:
        directory = open_directory(self._layer.directory, self._path)
        try:
            yield directory
        finally:
            os.close(directory)


def _read_leaf(directory: int, name: bytes, status: os.stat_result) -> Leaf[Never]:
    symlink = stat.S_ISLNK(status.st_mode)
    plain = symlink or stat.S_ISREG(status.st_mode)
    return Leaf(
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        () if symlink else _sorted(read_xattrs(node_place(directory, name), follow=False)),
        status.st_size if plain else 0,
        status.st_rdev,
        os.readlink(name, dir_fd=directory) if symlink else b"",
        links=status.st_nlink,
    )


def _sorted(xattrs: Xattrs) -> Xattrs:
    return tuple(sorted(xattrs))


def _is_marked(directory: int, mark: str) -> bool:
    try:
        return os.getxattr(directory, mark) == b"y"
    except OSError as error:
        if error.errno in _NO_MARK:
            return False
        raise
