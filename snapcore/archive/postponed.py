"""What a layer that was applied apart from its parents leaves to do once they are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import msgspec

from snapcore.archive.failures import Path
from snapcore.archive.types import InOrder
from snapcore.archive.whiteout import Deletion
from snapcore.errors import InvalidArgument

_MAX_RECORDS: Final = 200_000
# In the memory of the process that reads them back, roughly.
_MAX_BYTES: Final = 128 << 20
_RECORD_BYTES: Final = 200
_COMPONENT_BYTES: Final = 64
_NOT_NAMES: Final = (b"", b".", b"..")


class Link(NamedTuple):
    """A hard link whose target is not in the layer itself.

    Attributes:
        path: of the link, through directories of the layer only.
        target: as the layer names it.
    """

    path: Path
    target: Path


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    implied: list[bytes]
    late: list[bytes]
    deletions: list[tuple[bytes, bytes | None]]
    links: list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Postponed:
    """What depends on the layers below, in the order of the layer.

    Attributes:
        implied: directories that were made only because something is in them, parents first;
            () if the layer has no entry for the root.
        late: directories that got an entry only after something was put into them.
        deletions: whiteouts and opaque markers.
        links: hard links to what is not in the layer.
    """

    implied: tuple[Path, ...] = ()
    late: tuple[Path, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the layer is whole as it is, over any parent, and need not be settled.

        A layer without an entry for the root directory never is: its root has the parent's
        attributes.
        """
        return not (self.implied or self.late or self.deletions or self.links)

    def encode(self) -> bytes:
        """Return bytes for `decode`."""
        return msgspec.msgpack.encode(
            _Wire(
                [_joined(path) for path in self.implied],
                [_joined(path) for path in self.late],
                [(_joined(item.parent), item.name) for item in self.deletions],
                [(_joined(link.path), _joined(link.target)) for link in self.links],
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what `encode` made into bytes.

        Raises:
            InvalidArgument: it did not make these, or a name in it is none.
        """
        try:
            wire = msgspec.msgpack.decode(data, type=_Wire)
        except msgspec.MsgspecError as error:
            raise InvalidArgument(f"postponed work of a layer is malformed: {error}") from error
        return cls(
            _split_all(wire.implied),
            _split_all(wire.late),
            tuple(_deletion(parent, name) for parent, name in wire.deletions),
            tuple(Link(_split(path), _split(target)) for path, target in wire.links),
        )


class Postponing:
    """Collects what is postponed while a layer is applied; its memory has a bound."""

    def __init__(self) -> None:
        """Start with the root, which has no entry yet."""
        self._implied: dict[Path, None] = {(): None}
        self._late: list[Path] = []
        self._deletions: list[Deletion] = []
        self._links: list[Link] = []
        self._records = 0
        self._bytes = 0

    def imply(self, path: Path) -> None:
        """Add a directory that an entry below it needs.

        Raises:
            InOrder: it is too much.
        """
        self._count(path)
        self._implied[path] = None

    def explicit(self, path: Path) -> None:
        """Note that a directory has an entry of its own."""
        if path in self._implied:
            del self._implied[path]
            if path:
                self._late.append(path)

    def delete(self, item: Deletion) -> None:
        """Add a deletion.

        Raises:
            InOrder: it is too much.
        """
        self._count((*item.parent, item.name or b""))
        self._deletions.append(item)

    def link(self, path: Path, target: Path) -> None:
        """Add a hard link.

        Raises:
            InOrder: it is too much.
        """
        self._count((*path, *target))
        self._links.append(Link(path, target))

    def collected(self) -> Postponed:
        """Return everything."""
        implied = sorted(self._implied, key=len)
        return Postponed(
            tuple(implied), tuple(self._late), tuple(self._deletions), tuple(self._links)
        )

    def _count(self, path: Path) -> None:
        self._records += 1
        self._bytes += _RECORD_BYTES + sum(len(part) + _COMPONENT_BYTES for part in path)
        if self._records > _MAX_RECORDS or self._bytes > _MAX_BYTES:
            raise InOrder("too much in it depends on the layers below")


def _deletion(parent: bytes, name: bytes | None) -> Deletion:
    if name is not None:
        _check_name(name)
    return Deletion(_split(parent), name)


def _joined(path: Path) -> bytes:
    return b"/".join(path)


def _split_all(joined: Iterable[bytes]) -> tuple[Path, ...]:
    return tuple(_split(path) for path in joined)


def _split(joined: bytes) -> Path:
    path = tuple(joined.split(b"/")) if joined else ()
    for name in path:
        _check_name(name)
    return path


def _check_name(name: bytes) -> None:
    if name in _NOT_NAMES or b"/" in name:
        raise InvalidArgument(f"postponed work of a layer is malformed: {name!r} is no name")
