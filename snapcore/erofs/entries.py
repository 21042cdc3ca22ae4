"""A directory's entries, cut into blocks.

Each block holds the heads of some entries and then their names, all sorted over the whole
directory, so that the kernel finds a name by bisection (kernel, fs/erofs/namei.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from snapcore.archive.virtual import Leaf
from snapcore.erofs.layout import DIRENT, MAX_NAME, SLOT
from snapcore.erofs.tree import Child
from snapcore.errors import RefusedInput

_DOTS: Final = (b".", b"..")
_SHOWN: Final = 64


class Head(NamedTuple):
    """One entry.

    Attributes:
        name: in its directory.
        inode: its number.
        kind: of the inode, see `FILE_TYPES`.
    """

    name: bytes
    inode: int
    kind: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a directory is cut, which follows from the names alone.

    Attributes:
        ends: for each block, the number of entries up to its end.
        full: how many of them are blocks of their own; the last one may be behind the inode.
        tail: bytes behind the inode.
        size: of all.
        directories: among the entries.
    """

    ends: tuple[int, ...]
    full: int
    tail: int
    size: int
    directories: int


def shape_of(children: Sequence[Child], block_bits: int) -> Shape:
    """Return how a directory is cut that has these children.

    Raises:
        RefusedInput: a name is longer than any kernel takes.
    """
    block = 1 << block_bits
    ends: list[int] = []
    used = 0
    names = sorted((*(name for name, _ in children), *_DOTS))
    for index, name in enumerate(names):
        if len(name) > MAX_NAME:
            raise RefusedInput(f"a name of {len(name)} bytes: {name[:_SHOWN]!r}…")
        need = DIRENT.size + len(name)
        if used + need > block:
            ends.append(index)
            used = 0
        used += need
    ends.append(len(names))
    # Wherever an inode begins, what comes behind it must end in the block that it begins in.
    inline = used <= block - SLOT
    return Shape(
        ends=tuple(ends),
        full=len(ends) - inline,
        tail=used if inline else 0,
        size=((len(ends) - 1) << block_bits) + used,
        directories=sum(not isinstance(node, Leaf) for _, node in children),
    )


def packed(entries: Iterable[Head], shape: Shape) -> Iterator[bytes]:
    """Yield the blocks of a directory, each without what fills it up.

    Args:
        entries: in any order, "." and ".." among them.
        shape: of the same names.
    """
    ordered = sorted(entries)
    start = 0
    for end in shape.ends:
        block = ordered[start:end]
        offset = DIRENT.size * len(block)
        heads: list[bytes] = []
        for name, inode, kind in block:
            heads.append(DIRENT.pack(inode, offset, kind, 0))
            offset += len(name)
        yield b"".join((*heads, *(name for name, _, _ in block)))
        start = end
