"""One 512-byte tar header: v7, ustar (POSIX.1-2017, pax, "ustar Interchange Format") and GNU.

Strict where readers of the field differ: an unknown magic, a number that is neither octal nor
base-256, a GNU header with a name prefix where its times belong, or a v7 header with one where
nothing belongs are refused, because each reader would see another entry.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final
from zlib import adler32

import msgspec

from snapcore.errors import RefusedInput

BLOCK: Final = 512
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s")
_USTAR: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \x00"
_V7: Final = bytes(8)
_PREFIX: Final = slice(345, 500)
_STAR_PREFIX: Final = slice(345, 476)
_STAR_TRAILER: Final = b"tar\0"
_GNU_TIMES: Final = (slice(345, 357), slice(357, 369))
_MAJOR: Final = slice(329, 337)
_MINOR: Final = slice(337, 345)
_CHECKSUM: Final = slice(148, 156)
_BLANKS: Final = 8 * 0x20
_CACHED_NUMBERS: Final = 4096
_NANOSECONDS: Final = 1_000_000_000


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fields of one header, with their syntax checked but not their range.

    Attributes:
        name: prefix and name, raw.
        type: the type flag, one byte.
        mode: as it is, file type bits included.
        uid: owner.
        gid: group.
        size: bytes of payload.
        mtime: nanoseconds since the epoch.
        link: link name, raw.
        v7: it has no place for device numbers.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    v7: bool


class HeaderDecoder:
    """Decodes headers; remembers the numbers it has met, since owners and modes repeat."""

    def __init__(self, refuse: Callable[[str], RefusedInput]) -> None:
        """Decode; `refuse` makes the error that names the place."""
        self._refuse = refuse
        self._numbers: dict[bytes, int] = {}

    def decode(self, block: bytes) -> Header:
        """Decode one block.

        Raises:
            RefusedInput: wrong checksum, unknown magic, malformed number.
        """
        name, mode, uid, gid, size, mtime, checksum, kind, link, magic = _FIELDS.unpack_from(block)
        if not self._checksum_is_right(block, checksum):
            raise self._refuse("the header's checksum is wrong")
        name = name.partition(b"\0")[0]
        if block[345]:
            name = self._prefixed(block, magic, name)
        if magic not in (_USTAR, _GNU, _V7):
            raise self._refuse(f"the header is neither ustar nor GNU nor v7: {magic!r}")
        number = self._number
        return Header(
            name,
            kind,
            number(mode),
            number(uid),
            number(gid),
            number(size),
            number(mtime) * _NANOSECONDS,
            link.partition(b"\0")[0] if link[0] else b"",
            magic == _V7,
        )

    def device(self, block: bytes) -> tuple[int, int]:
        """Return the major and minor number of a device's header.

        Raises:
            RefusedInput: malformed number.
        """
        return self._number(block[_MAJOR]), self._number(block[_MINOR])

    def _checksum_is_right(self, block: bytes, field: bytes) -> bool:
        # The low half of Adler-32 started at 0 is the plain sum, exact for up to 256 bytes.
        unsigned = (adler32(block[:256], 0) & 0xFFFF) + (adler32(block[256:], 0) & 0xFFFF)
        wanted = self._octal(field)
        if unsigned - (adler32(field, 0) & 0xFFFF) + _BLANKS == wanted:
            return True
        # Old writers summed signed bytes; every reader of the field takes both.
        signed: int = sum(struct.unpack("512b", block)) - sum(struct.unpack("8b", field))
        return signed + _BLANKS == wanted

    def _prefixed(self, block: bytes, magic: bytes, name: bytes) -> bytes:
        if magic == _V7:
            raise self._refuse("a v7 header with a name prefix, which v7 does not have")
        if magic == _GNU:
            for place in _GNU_TIMES:
                if block[place.start]:
                    self._number(block[place])
            return name
        place = _STAR_PREFIX if block[508:] == _STAR_TRAILER else _PREFIX
        return block[place].partition(b"\0")[0] + b"/" + name

    def _number(self, field: bytes) -> int:
        value = self._numbers.get(field)
        if value is None:
            value = _base256(field) if field[0] & 0x80 else self._octal(field)
            if len(self._numbers) >= _CACHED_NUMBERS:
                self._numbers.clear()
            self._numbers[field] = value
        return value

    def _octal(self, field: bytes) -> int:
        digits = field.strip(b" \0")
        if not digits:
            return 0
        if not digits.isdigit():  # int() alone would take signs, underscores and prefixes
            raise self._refuse(f"the header has a malformed number: {field!r}")
        try:
            return int(digits, 8)
        except ValueError as error:
            raise self._refuse(f"the header has a malformed number: {field!r}") from error


def _base256(field: bytes) -> int:
    if field[0] & 0x40:
        return int.from_bytes(field, "big", signed=True)
    return int.from_bytes(field, "big") & ~(1 << (len(field) * 8 - 1))
