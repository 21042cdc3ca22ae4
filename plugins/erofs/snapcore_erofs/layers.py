"""Layers that are images: one file of metadata for each, which points into the layer's tar.

snapshots/<id>/layer/tar       the uncompressed layer
snapshots/<id>/layer/image     its own tree: an EROFS image with overlayfs' marks
snapshots/<id>/layer/devices   ids of the snapshots whose tars the image points into, one a line
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from snapcore.snapshots import Checkpoint, DiskStore, OverlayStore
from snapcore_erofs.received import Received

_Tree: TypeAlias = LayerDirectory[Place]
_LAYER: Final = "layer"
_TAR: Final = "tar"
_IMAGE: Final = "image"
_OTHERS: Final = "others"
_OWN: Final = 1
_OFTEN: Final = 1000


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
        """Tell by its id whether a committed snapshot's layer is an image."""
        return os.path.isdir(self.directory(snapshot))

    def directory(self, snapshot: int) -> str:
        """Return the directory that holds a layer's image and tar."""
        return self._disk.path(snapshot, _LAYER)

    def image(self, snapshot: int) -> str:
        """Return the path of a layer's image.

        Raises:
            DataLoss: it is gone.
        """
        path = self._disk.path(snapshot, _LAYER, _IMAGE)
        if not os.path.isfile(path):
            raise DataLoss(f"EROFS image {path!r} is gone; pull its image again or repair it")
        return path

    def devices(self, snapshot: int) -> tuple[str, ...]:
        """Return the paths of the tars that a layer's image points into, in their order.

        Raises:
            OSError: they cannot be listed.
        """
        others = self._disk.path(snapshot, _OTHERS)
        count = len(os.listdir(others)) if os.path.isdir(others) else 0
        linked = (os.path.join(others, str(number)) for number in range(count))
        return (self._disk.path(snapshot, _LAYER, _TAR), *linked)

    def forget(self, snapshot: int) -> None:
        """Delete what a commit that did not come to its end has made.

        Raises:
            OSError: it cannot be deleted.
        """
        for name in (_LAYER, _OTHERS):
            with suppress(FileNotFoundError):
                shutil.rmtree(self._disk.path(snapshot, name))

    def make(
        self, snapshot: int, parents: Sequence[int], layer: Received, checkpoint: Checkpoint
    ) -> bool:
        """Make the image of a layer whose tar is here; say whether it hides all below it.

        Args:
            snapshot: whose layer it is.
            parents: that show below it, the nearest first.
            layer: what was received.
            checkpoint: called often; raises if the caller has gone away.

        Raises:
            RefusedInput: applying the layer would be refused as well.
            Unimplemented: a hard link needs the bytes of a layer that is a directory.
            SnapcoreError: a layer below cannot be read, or the image not written.
            OSError: files cannot be made.
        """
        self.forget(snapshot)
        os.mkdir(self.directory(snapshot), 0o700)
        own, *_ = self.devices(snapshot)
        # It stays where it was until the commit is recorded: a second try begins there.
        _link(layer.tar, own)
        tars = _Tars(own)
        described = self._described(parents, layer, tars, checkpoint)
        used = _devices_of(described.root) - {_OWN}
        paths = {_OWN: own}
        if used:
            others = self._disk.path(snapshot, _OTHERS)
            os.mkdir(others, 0o700)
            for number, device in enumerate(sorted(used)):
                # A name of its own: the snapshot that it comes from may be made again in its place.
                paths[device] = os.path.join(others, str(number))
                os.link(tars.path(device), paths[device])
        with open(os.path.join(self.directory(snapshot), _IMAGE), "xb+") as file:
            sizes = {device: os.stat(path).st_size for device, path in paths.items()}
            options = ImageOptions(style=self._style)
            write_image(described.root, sizes, file.fileno(), options, checkpoint)
        return described.root.opaque

    def _described(
        self, parents: Sequence[int], layer: Received, tars: _Tars, checkpoint: Checkpoint
    ) -> Described[Place]:
        with ExitStack() as opened:
            below = [opened.enter_context(self._tree(each, tars)) for each in parents]
            try:
                return describe(_Located(layer, checkpoint), MergedView(below))
            except NotLazy as error:
                raise Unimplemented(
                    f"the layer has a hard link to a file of a layer that was not unpacked from an"
                    f" image: {error}; unpack it with another snapshotter"
                ) from error

    @contextmanager
    def _tree(self, snapshot: int, tars: _Tars) -> Iterator[_Tree]:
        """Open a layer's own tree for reading."""
        if not self.is_image(snapshot):
            path = self._upper.directory(snapshot)
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield DiskLayer(directory, self._style).root
            finally:
                os.close(directory)
            return
        devices = self.devices(snapshot)
        # Not mapped: what an error's traceback refers to would keep the file open.
        with open(self.image(snapshot), "rb") as file:
            data = file.read()

        def place(device: int, offset: int) -> Place:
            return Place(tars.number(devices[device - 1]), offset)

        yield ImageLayer(Image(memoryview(data)), self._style, place).root


class _Tars:
    """The tars that files of a tree may lie in, by number.

    Each is one file however many names it has: a layer's tar is linked beside each image that
    points into it.
    """

    def __init__(self, own: str) -> None:
        self._paths = {_OWN: own}
        self._numbers = {_identity(own): _OWN}

    def number(self, path: str) -> int:
        """Return the number of the tar at a path."""
        key = _identity(path)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers) + 1
            self._paths[self._numbers[key]] = path
        return self._numbers[key]

    def path(self, number: int) -> str:
        """Return the path of a tar."""
        return self._paths[number]


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _link(file: int, path: str) -> None:
    """Give an open file one more name; linkat(2) through /proc, as open(2) has it for O_TMPFILE."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(
            f"/proc/self/fd/{file}",
            os.path.basename(path),
            dst_dir_fd=directory,
            follow_symlinks=True,
        )
    finally:
        os.close(directory)


class _Located:
    """The entries of a layer with the places of their bytes, as often as they are gone through."""

    def __init__(self, layer: Received, checkpoint: Checkpoint) -> None:
        self._layer = layer
        self._checkpoint = checkpoint

    def __iter__(self) -> Iterator[tuple[Entry, Place | None]]:
        for number, (entry, start) in enumerate(self._layer):
            if number % _OFTEN == 0:
                self._checkpoint()
            has_bytes = entry.size and entry.type is EntryType.FILE
            yield entry, Place(_OWN, start) if has_bytes else None


def _devices_of(root: Directory[Place]) -> set[int]:
    """Return the numbers of the tars that have the bytes of a tree's files."""
    found: set[int] = set()
    pending = [root]
    while pending:
        for node in pending.pop().children.values():
            if isinstance(node, Directory):
                pending.append(node)
            elif isinstance(node, Leaf) and node.place is not None and node.size:
                found.add(node.place.device)
    return found
