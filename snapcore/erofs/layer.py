"""The own tree of a layer that is an image: what other layers are described over."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final, Generic, Literal

from snapcore.archive.virtual import WHITEOUT, Attributes, Leaf, Whiteout
from snapcore.archive.virtual.types import P
from snapcore.erofs.inode import Inode
from snapcore.erofs.reader import Image
from snapcore.errors import DataLoss
from snapcore.oci.whiteout import WhiteoutStyle

_DOTS: Final = (b".", b"..")


class ImageLayer(Generic[P]):
    """A layer's own tree, read from its image when it is asked for.

    Args:
        image: of the layer alone.
        style: how overlayfs is told of its opaque directories.
        place: says where the bytes of a file are, by the number of the device that has them,
            from 1 on, and their offset there.
    """

    def __init__(self, image: Image, style: WhiteoutStyle, place: Callable[[int, int], P]) -> None:
        self.image: Final = image
        self.mark: Final = style.opaque_xattr.encode()
        self._place: Final = place
        self._linked: dict[int, Leaf[P]] = {}

    @property
    def root(self) -> ImageDirectory[P]:
        """Its root directory.

        Raises:
            DataLoss: the image is damaged.
        """
        return ImageDirectory(self, self.image.root)

    def leaf(self, inode: Inode) -> Leaf[P]:
        """Return a node that is no directory; one object for all names of an inode.

        Raises:
            DataLoss: the image is damaged.
        """
        if inode.links < 2:
            return self._read_leaf(inode)
        found = self._linked.get(inode.number)
        if found is None:
            found = self._linked[inode.number] = self._read_leaf(inode)
        return found

    def _read_leaf(self, inode: Inode) -> Leaf[P]:
        symlink = stat.S_ISLNK(inode.mode)
        return Leaf(
            inode.mode,
            inode.uid,
            inode.gid,
            inode.mtime,
            tuple(sorted(self.image.xattrs(inode).items())),
            inode.size,
            os.makedev(*inode.device),
            self.image.target(inode) if symlink else b"",
            None if symlink else self._find_bytes(inode),
            inode.links,
        )

    def _find_bytes(self, inode: Inode) -> P | None:
        extents = list(self.image.extents(inode))
        if not extents:
            return None
        # Our writer makes one piece of each file; what is in pieces has no place to name.
        device, offset, _ = extents[0]
        if len(extents) > 1 or not device:
            raise DataLoss(f"file {inode.number} of an EROFS image is not in one piece")
        return self._place(device, offset)


class ImageDirectory(Generic[P]):
    """A directory of a layer that is an image; a `LayerDirectory`.

    Attributes:
        attributes: owner, mode, time and xattrs.
        opaque: whether nothing of the layers below shines through.
    """

    __slots__ = ("_inode", "_layer", "attributes", "opaque")

    def __init__(self, layer: ImageLayer[P], inode: Inode) -> None:
        """Read the attributes of a directory.

        Raises:
            DataLoss: the image is damaged.
        """
        self._layer: Final = layer
        self._inode: Final = inode
        xattrs = layer.image.xattrs(inode)
        self.opaque: Final = xattrs.pop(layer.mark, b"") == b"y"
        self.attributes: Final = Attributes(
            stat.S_IMODE(inode.mode),
            inode.uid,
            inode.gid,
            inode.mtime,
            tuple(sorted(xattrs.items())),
        )

    def lookup(
        self, name: bytes
    ) -> ImageDirectory[P] | Leaf[P] | Literal[Whiteout.WHITEOUT] | None:
        """See `LayerDirectory.lookup`.

        Raises:
            DataLoss: the image is damaged.
        """
        image = self._layer.image
        number = None if name in _DOTS else image.find(self._inode, name)
        if number is None:
            return None
        inode = image.inode(number)
        if stat.S_ISDIR(inode.mode):
            return ImageDirectory(self._layer, inode)
        if stat.S_ISCHR(inode.mode) and inode.device == (0, 0):
            return WHITEOUT
        return self._layer.leaf(inode)

    def names(self) -> Iterator[bytes]:
        """See `LayerDirectory.names`.

        Raises:
            DataLoss: the image is damaged.
        """
        entries = self._layer.image.children(self._inode)
        return (name for name, _, _ in entries if name not in _DOTS)
