"""What a described tree is made of.

A layer's own tree is what its upper directory would hold: the layer's nodes, whiteouts, marks of
opaque directories, and the directories that had to be copied up. Names lead to nodes; a node
with several names is one object under each of them, so identity is what an inode is on disk.

Where a file's bytes are is a *place*: a value of the caller's, which nothing here looks at.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from enum import Enum
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from snapcore.archive.metadata import Xattrs

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class NotLazy(Exception):
    """A signal, not a failure, and so not in the error tree.

    The layer makes a hard link to a file whose bytes are in an unpacked layer below it, so that
    no place says where they are. Unpack this layer too. Its text is the reason.
    """


class Whiteout(Enum):
    """The type of `WHITEOUT`."""

    WHITEOUT = "whiteout"


WHITEOUT: Final = Whiteout.WHITEOUT
"""Stands in a layer's directory for a name of the layers below that it hides."""


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """The attributes of a directory.

    Attributes:
        mode: permission bits, setuid, setgid and sticky (0o7777).
        uid: owner.
        gid: group.
        mtime: nanoseconds since the epoch.
        xattrs: name and value pairs, each name once.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Xattrs = ()


class Leaf(msgspec.Struct, Generic[P_co], eq=False, gc=False):
    """A node that is no directory; its identity is that of the inode.

    Attributes:
        mode: type and permission bits, as `st_mode`.
        uid: owner.
        gid: group.
        mtime: nanoseconds since the epoch.
        xattrs: name and value pairs, each name once.
        size: bytes of a file or of a symlink's target, else 0.
        device: as `st_rdev`; 0 unless a device.
        target: of a symlink.
        place: where the bytes of a file are; None for what has none, and for files of layers
            whose bytes cannot be named.
        links: how many names it has in its layer.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Xattrs = ()
    size: int = 0
    device: int = 0
    target: bytes = b""
    place: P_co | None = None
    links: int = 1

    @property
    def is_symlink(self) -> bool:
        """Whether it leads elsewhere."""
        return stat.S_ISLNK(self.mode)


class LayerDirectory(Protocol[P_co]):
    """A directory of one layer's own tree, wherever that is kept."""

    @property
    def attributes(self) -> Attributes:
        """Owner, mode, time and xattrs."""

    @property
    def opaque(self) -> bool:
        """Whether nothing of the layers below shines through."""

    def lookup(self, name: bytes) -> LayerNode[P_co] | None:
        """Return what the layer has under a name; None for nothing.

        A leaf with several names is the same object each time, under each of them.
        """

    def names(self) -> Iterable[bytes]:
        """Return all names, those of whiteouts too, each once and in any order."""


LayerNode: TypeAlias = LayerDirectory[P_co] | Leaf[P_co] | Literal[Whiteout.WHITEOUT]


class Directory(Generic[P]):
    """A directory of a tree in memory; a `LayerDirectory`.

    Attributes:
        attributes: owner, mode, time and xattrs.
        opaque: whether nothing of the layers below shines through.
        children: what it holds, by name.
    """

    __slots__ = ("attributes", "children", "opaque")

    def __init__(self, attributes: Attributes, *, opaque: bool = False) -> None:
        self.attributes = attributes
        self.opaque = opaque
        self.children: dict[bytes, Directory[P] | Leaf[P] | Literal[Whiteout.WHITEOUT]] = {}

    def lookup(self, name: bytes) -> Directory[P] | Leaf[P] | Literal[Whiteout.WHITEOUT] | None:
        """See `LayerDirectory.lookup`."""
        return self.children.get(name)

    def names(self) -> Iterable[bytes]:
        """See `LayerDirectory.names`."""
        return self.children
