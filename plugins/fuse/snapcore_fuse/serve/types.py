"""What is served, and the role of what speaks to the kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from snapcore_fuse.tables import Status, Table

if TYPE_CHECKING:
    from snapcore_fuse.serve.handlers import Handlers

ROOT: Final = 1
"""Inode number of the mount's root (linux/fuse.h, FUSE_ROOT_ID)."""

Reader: TypeAlias = Callable[[int, int, int, int], Awaitable[bytes]]
"""Returns bytes, in bounded time: number of the table's source, offset in its stream, size, and
where the file that they are of ends in the stream."""

_SHIFT: Final = 32
_MASK: Final = (1 << _SHIFT) - 1


@dataclass(frozen=True, slots=True)
class Served:
    """One snapshot's own tree.

    Attributes:
        table: its inodes.
        read: gives the bytes of its files.
    """

    table: Table
    read: Reader


class Found(NamedTuple):
    """An inode of the mount.

    Attributes:
        inode: its number.
        status: what stat(2) says of it.
    """

    inode: int
    status: Status


class Space(NamedTuple):
    """What statfs(2) says of the mount.

    Attributes:
        size: bytes of all files.
        files: number of inodes.
    """

    size: int
    files: int


def inode_number(snapshot: int, index: int) -> int:
    """Return the number of an inode: nothing but the snapshot's id and the table decides it."""
    return snapshot << _SHIFT | index + 1


def split_inode(inode: int) -> tuple[int, int]:
    """Return the snapshot's id and the number in its table."""
    return inode >> _SHIFT, (inode & _MASK) - 1


class FuseTransport(Protocol):
    """Speaks to the kernel for one mount."""

    async def run(self, handlers: Handlers, mountpoint: str, started: Callable[[], None]) -> None:
        """Mount, and answer requests until cancelled or unmounted; nothing stays mounted.

        Args:
            handlers: answer them.
            mountpoint: an empty directory.
            started: called once the mount answers.

        Raises:
            SnapcoreError: it cannot be mounted.
        """

    def forget(self, snapshot: int) -> None:
        """Let the kernel drop what it knows of a snapshot that is served no more."""
