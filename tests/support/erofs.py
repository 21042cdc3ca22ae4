"""EROFS images for tests: of layers with their bytes in one file each, read back or mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from snapcore.archive import EntryType
from snapcore.archive.virtual import Directory, LayerDirectory, MergedView, describe
from snapcore.erofs import Image, ImageOptions, ImageSummary, Inode, Place, write_image
from snapcore.erofs.tree import Tree
from snapcore.linux import MountFlag, UnmountFlag, mount, umount
from support.layers import Layer, Path
from support.tree_model import KINDS

_DOTS: Final = (b".", b"..")
_DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK)


def numbered(sizes: Sequence[int]) -> dict[int, int]:
    """Return the sizes of devices by their numbers."""
    return dict(enumerate(sizes, 1))


def image_of(
    tree: Tree, devices: Sequence[int] = (), options: ImageOptions | None = None
) -> tuple[Image, ImageSummary]:
    """Return the image of a tree, written to memory."""
    file = os.memfd_create("image")
    try:
        summary = write_image(tree, numbered(devices), file, options or ImageOptions())
        data = os.pread(file, summary.size + 1, 0)
    finally:
        os.close(file)
    assert len(data) == summary.size
    return Image(memoryview(data)), summary


class ErofsStack:
    """Layers described one over the other, the bytes of each in a file of its own.

    Attributes:
        layers: their own trees, the nearest first.
        data: for each layer in the order of the devices, its bytes.
        own: the nearest layer's tree, as it was described.
    """

    def __init__(self, options: ImageOptions | None = None) -> None:
        self.options = options or ImageOptions()
        self.layers: list[LayerDirectory[Place]] = []
        self.data: list[bytes] = []
        self.own: Directory[Place]

    def apply(self, layer: Layer) -> Directory[Place]:
        """Apply one more layer, and return its own tree."""
        block = 1 << self.options.block_bits
        number, data, located = len(self.data) + 1, bytearray(), []
        for entry, payload in layer:
            located.append((entry, Place(number, len(data)) if payload else None))
            data += payload.ljust(-(-len(payload) // block) * block, b"#")
        found = describe(located, MergedView(self.layers))
        self.layers.insert(0, found.root)
        self.data.append(bytes(data))
        self.own = found.root
        return found.root

    @property
    def merged(self) -> Tree:
        """All layers as they show together."""
        root = MergedView(self.layers).root
        assert root is not None
        return root

    def image(self, tree: Tree | None = None) -> Image:
        """Return the image of one layer's own tree, or of all."""
        return image_of(tree or self.merged, [len(each) for each in self.data], self.options)[0]

    def observe(self) -> dict[Path, tuple[object, ...]]:
        """Return the image of all layers as plain values, in the shape of `tree_model.observe`."""
        image = self.image()
        found: dict[Path, Inode] = {}
        pending: list[tuple[Path, Inode]] = [((), image.root)]
        while pending:
            path, inode = pending.pop()
            found[path] = inode
            if stat.S_ISDIR(inode.mode):
                pending += [
                    ((*path, name), image.inode(number))
                    for name, number, _ in image.children(inode)
                    if name not in _DOTS
                ]
        first: dict[int, Path] = {}
        return {path: self._observed(image, found[path], path, first) for path in sorted(found)}

    def _observed(
        self, image: Image, inode: Inode, path: Path, first: dict[int, Path]
    ) -> tuple[object, ...]:
        kind = KINDS[stat.S_IFMT(inode.mode)]
        content = b""
        if kind is EntryType.FILE:
            content = self._content(image, inode)
        elif kind is EntryType.SYMLINK:
            content = image.target(inode)
        return (
            kind,
            stat.S_IMODE(inode.mode),
            (inode.uid, inode.gid),
            inode.mtime,
            content,
            inode.device if kind in _DEVICES else (0, 0),
            sorted(image.xattrs(inode).items()),
            path if kind is EntryType.DIRECTORY else first.setdefault(inode.number, path),
        )

    def _content(self, image: Image, inode: Inode) -> bytes:
        pieces = []
        for device, offset, size in image.extents(inode):
            assert device
            pieces.append(self.data[device - 1][offset : offset + size])
        return b"".join(pieces)

    def write(self, top: str, name: str, tree: Tree | None = None) -> str:
        """Write an image and its devices into a directory; return the option that names these."""
        devices = []
        for number, data in enumerate(self.data):
            devices.append(os.path.join(top, f"data{number}"))
            with open(devices[-1], "wb") as file:
                file.write(data or b"#")
        path = os.path.join(top, name)
        with open(path, "wb+") as file:
            sizes = [os.stat(each).st_size for each in devices]
            write_image(tree or self.merged, numbered(sizes), file.fileno(), self.options)
        return ",".join(f"device={each}" for each in devices)


@contextmanager
def mounted(image: str, devices: str, target: str) -> Iterator[str]:
    """Mount an image for the duration of a `with` block and yield where."""
    os.makedirs(target, exist_ok=True)
    mount(image, target, "erofs", MountFlag.RDONLY, devices)
    try:
        yield target
    finally:
        umount(target, UnmountFlag.DETACH)
