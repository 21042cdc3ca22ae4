"""Layers that are images: one file of metadata for each, which points into the layer's tar.

snapshots/<id>/layer/tar       the uncompressed layer
snapshots/<id>/layer/image     its own tree: an EROFS image with overlayfs' marks
snapshots/<id>/layer/devices   ids of the snapshots whose tars the image points into, one a line
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, TypeAlias

from snapcore.archive import Entry, EntryType
from snapcore.archive.virtual import (
    Described,
    Directory,
    DiskLayer,
    LayerDirectory,
    Leaf,
    MergedView,
    NotLazy,
    describe,
)
from snapcore.erofs import Image, ImageLayer, ImageOptions, Place, write_image
from snapcore.errors import DataLoss, Unimplemented
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import DiskStore, OverlayStore
from snapcore_erofs.received import Received

_Tree: TypeAlias = LayerDirectory[Place]
_LAYER: Final = "layer"
_TAR: Final = "tar"
_IMAGE: Final = "image"
_DEVICES: Final = "devices"


class Layers:
    """The images below one state root.

    Args:
        disk: records and directories.
        upper: where layers are that are directories.
        style: how overlayfs is told of opaque directories.
    """

    __slots__ = ("_disk", "_style", "_upper")

    def __init__(self, disk: DiskStore, upper: OverlayStore, style: WhiteoutStyle) -> None:
        self._disk: Final = disk
        self._upper: Final = upper
        self._style: Final = style

    def is_image(self, snapshot: int) -> bool:
        """Tell by its id whether a snapshot's layer is an image."""
        return os.path.exists(self.image(snapshot))

    def directory(self, snapshot: int) -> str:
        """Return the directory that holds a layer's image and tar."""
        return self._disk.path(snapshot, _LAYER)

    def image(self, snapshot: int) -> str:
        """Return the path of a layer's image."""
        return self._disk.path(snapshot, _LAYER, _IMAGE)

    def devices(self, snapshot: int) -> tuple[str, ...]:
        """Return the paths of the tars that a layer's image points into, in their order.

        Raises:
            DataLoss: what was noted is damaged.
            OSError: it cannot be read.
        """
        return tuple(self._tar(each) for each in self._device_ids(snapshot))

    def make(self, snapshot: int, parents: Sequence[int], received: Received) -> bool:
        """Make the image of a layer whose tar is here; say whether it hides all below it.

        Args:
            snapshot: whose layer it is.
            parents: that show below it, the nearest first.
            received: the layer.

        Raises:
            RefusedInput: applying the layer would be refused as well.
            Unimplemented: a hard link needs the bytes of a layer that is a directory.
            SnapcoreError: a layer below cannot be read, or the image not written.
            OSError: files cannot be made.
        """
        directory = self.directory(snapshot)
        # Of a commit that did not come to its end.
        shutil.rmtree(directory, ignore_errors=True)
        os.mkdir(directory, 0o700)
        # It stays where it was until the commit is recorded: a second try begins there.
        os.link(received.tar, os.path.join(directory, _TAR))
        described = self._described(snapshot, parents, received)
        devices = sorted(_devices_of(described.root) | {snapshot}, reverse=True)
        with open(os.path.join(directory, _DEVICES), "x", encoding="ascii") as file:
            file.writelines(f"{each}\n" for each in devices)
        with open(os.path.join(directory, _IMAGE), "xb+") as file:
            sizes = {each: os.stat(self._tar(each)).st_size for each in devices}
            options = ImageOptions(style=self._style)
            write_image(described.root, sizes, file.fileno(), options)
        return described.root.opaque

    def _described(
        self, snapshot: int, parents: Sequence[int], received: Received
    ) -> Described[Place]:
        with ExitStack() as opened:
            below = [opened.enter_context(self._tree(each)) for each in parents]
            try:
                return describe(_Located(received, snapshot), MergedView(below))
            except NotLazy as error:
                raise Unimplemented(
                    f"the layer has a hard link to a file of a layer that was not unpacked from an"
                    f" image: {error}; unpack it with another snapshotter"
                ) from error

    @contextmanager
    def _tree(self, snapshot: int) -> Iterator[_Tree]:
        """Open a layer's own tree for reading."""
        if not self.is_image(snapshot):
            path = self._upper.directory(snapshot)
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield DiskLayer(directory, self._style).root
            finally:
                os.close(directory)
            return
        devices = self._device_ids(snapshot)
        # Not mapped: what an error's traceback refers to would keep the file open.
        with open(self.image(snapshot), "rb") as file:
            data = file.read()

        def place(device: int, offset: int) -> Place:
            return Place(devices[device - 1], offset)

        yield ImageLayer(Image(memoryview(data)), self._style, place).root

    def _tar(self, snapshot: int) -> str:
        return self._disk.path(snapshot, _LAYER, _TAR)

    def _device_ids(self, snapshot: int) -> tuple[int, ...]:
        with open(self._disk.path(snapshot, _LAYER, _DEVICES), encoding="ascii") as file:
            try:
                return tuple(map(int, file.read().split()))
            except ValueError as error:
                raise DataLoss(f"the devices of layer {snapshot} are damaged") from error


class _Located:
    """The entries of a layer with the places of their bytes, as often as they are gone through."""

    def __init__(self, received: Received, snapshot: int) -> None:
        self._received = received
        self._snapshot = snapshot

    def __iter__(self) -> Iterator[tuple[Entry, Place | None]]:
        for entry, start in self._received:
            has_bytes = entry.size and entry.type is EntryType.FILE
            yield entry, Place(self._snapshot, start) if has_bytes else None


def _devices_of(root: Directory[Place]) -> set[int]:
    """Return the ids of the snapshots that have the bytes of a tree's files."""
    found: set[int] = set()
    pending = [root]
    while pending:
        for node in pending.pop().children.values():
            if isinstance(node, Directory):
                pending.append(node)
            elif isinstance(node, Leaf) and node.place is not None and node.size:
                found.add(node.place.device)
    return found
