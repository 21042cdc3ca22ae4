"""A table as a layer of the view that further layers are applied on."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from snapcore.archive.virtual import (
    WHITEOUT,
    Attributes,
    DiskLayer,
    Leaf,
    MergedView,
    Whiteout,
)
from snapcore_fuse.tables.table import Table
from snapcore_fuse.tables.types import StreamPlace


class TableLayer:
    """The tree of a table, as `MergedView` wants it."""

    def __init__(self, table: Table) -> None:
        """Show a table."""
        self.table: Final = table
        self._linked: dict[int, Leaf[StreamPlace]] = {}

    @property
    def root(self) -> TableDirectory:
        """Its root directory."""
        return TableDirectory(self, 0)

    def leaf(self, index: int) -> Leaf[StreamPlace]:
        """Return an inode that is no directory; one object for all of its names."""
        found = self._linked.get(index)
        if found is None:
            found = self._leaf(index)
            if found.links > 1:
                self._linked[index] = found
        return found

    def _leaf(self, index: int) -> Leaf[StreamPlace]:
        table, status = self.table, self.table.attributes(index)
        place = table.place(index)
        return Leaf(
            status.mode,
            status.uid,
            status.gid,
            status.mtime,
            tuple(table.own_xattrs(index).items()),
            status.size,
            status.device,
            table.target(index),
            StreamPlace(table.sources[place.source], place.start) if place else None,
            status.links,
        )


class TableDirectory:
    """A directory of a table; a `LayerDirectory`."""

    __slots__ = ("_index", "_layer")

    def __init__(self, layer: TableLayer, index: int) -> None:
        """Show the directory with this number."""
        self._layer: Final = layer
        self._index: Final = index

    @property
    def attributes(self) -> Attributes:
        """Owner, mode, time and xattrs."""
        table = self._layer.table
        status = table.attributes(self._index)
        return Attributes(
            stat.S_IMODE(status.mode),
            status.uid,
            status.gid,
            status.mtime,
            tuple(table.own_xattrs(self._index).items()),
        )

    @property
    def opaque(self) -> bool:
        """Whether nothing of the layers below shines through."""
        return self._layer.table.opaque(self._index)

    def lookup(
        self, name: bytes
    ) -> TableDirectory | Leaf[StreamPlace] | Literal[Whiteout.WHITEOUT] | None:
        """See `LayerDirectory.lookup`."""
        table = self._layer.table
        index = table.lookup(self._index, name)
        if index is None:
            return None
        status = table.attributes(index)
        if stat.S_ISDIR(status.mode):
            return TableDirectory(self._layer, index)
        if stat.S_ISCHR(status.mode) and not status.device:
            return WHITEOUT
        return self._layer.leaf(index)

    def names(self) -> Sequence[bytes]:
        """See `LayerDirectory.names`."""
        return [name for name, _ in self._layer.table.children(self._index)]


def view(layers: Iterable[Table | DiskLayer]) -> MergedView[StreamPlace]:
    """Return what layers show together, the nearest first: lazy ones and unpacked ones.

    Raises:
        OSError: an unpacked layer's root cannot be read.
    """
    return MergedView(
        [layer.root if isinstance(layer, DiskLayer) else TableLayer(layer).root for layer in layers]
    )
