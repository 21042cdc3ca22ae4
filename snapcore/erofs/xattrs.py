"""Xattrs as an image has them: behind their inode, or once for all that have the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from snapcore.erofs.layout import (
    MAX_SHARED,
    MAX_XATTR_VALUE,
    MAX_XATTR_WORDS,
    NO_FILTER,
    SHARED,
    XATTR_ENTRY,
    XATTR_HEADER,
    XATTR_PREFIXES,
    aligned,
    xattr_words,
)
from snapcore.errors import InvalidArgument, ResourceExhausted

_MOST_SHARED: Final = 65_536
_LONGEST_SHARED: Final = 4096


class XattrTable:
    """Turns the xattrs of inodes into bytes, and keeps those that may be shared.

    Each different one is kept once, up to a number; memory stays bounded where all differ, as
    signatures of files do.
    """

    def __init__(self) -> None:
        self._shared: Final[dict[tuple[bytes, bytes], int]] = {}
        self._bodies: Final[dict[Sequence[tuple[bytes, bytes]], bytes]] = {}
        self._area = bytearray()

    @property
    def area(self) -> bytes:
        """What is shared; complete once all inodes are written."""
        return bytes(self._area)

    def body(self, xattrs: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return what comes behind an inode.

        Args:
            xattrs: names, each once, and values.

        Raises:
            InvalidArgument: a name has no prefix that EROFS knows.
            ResourceExhausted: more than an inode can have.
        """
        if not xattrs:
            return b""
        key = tuple(sorted(xattrs))
        known = self._bodies.get(key)
        if known is None:
            known = self._make(key)
            if len(self._bodies) < _MOST_SHARED:
                self._bodies[key] = known
        return known

    def _make(self, xattrs: Sequence[tuple[bytes, bytes]]) -> bytes:
        references: list[bytes] = []
        inline: list[bytes] = []
        for name, value in xattrs:
            number = self._share(name, value) if len(references) < MAX_SHARED else None
            if number is None:
                inline.append(_entry(name, value))
            else:
                references.append(SHARED.pack(number))
        body = b"".join((XATTR_HEADER.pack(NO_FILTER, len(references)), *references, *inline))
        if xattr_words(len(body)) > MAX_XATTR_WORDS:
            raise ResourceExhausted(f"{len(body)} bytes of xattrs are more than an inode can have")
        return body

    def _share(self, name: bytes, value: bytes) -> int | None:
        """Return the number of a shared xattr; None for one that is not."""
        number = self._shared.get((name, value))
        if number is None and len(self._shared) < _MOST_SHARED and len(value) <= _LONGEST_SHARED:
            number = self._shared[name, value] = len(self._area) // 4
            self._area += _entry(name, value)
        return number


def _entry(name: bytes, value: bytes) -> bytes:
    rest, index = _split(name)
    if len(value) > MAX_XATTR_VALUE:
        raise ResourceExhausted(
            f"the {len(value)} bytes of xattr {name!r} are more than {MAX_XATTR_VALUE}"
        )
    entry = XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
    return entry.ljust(aligned(len(entry), 4), b"\0")


def _split(name: bytes) -> tuple[bytes, int]:
    """Return a name behind its prefix, and the prefix's number."""
    for prefix, index in XATTR_PREFIXES:
        rest = name[len(prefix) :]
        # The names of ACLs are nothing but a prefix; of all others, something must be left.
        if name.startswith(prefix) and bool(rest) == prefix.endswith(b"."):
            return rest, index
    raise InvalidArgument(f"EROFS has no xattr {name!r}")
