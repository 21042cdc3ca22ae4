"""How a chunk lies on disk: a header that describes and checks itself, then the bytes.

A header says where it belongs, so that what a crash left of an older file at the same place is
not taken for a chunk. Nothing is synced: checksums tell what reached the disk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

OWNER_BYTES: Final = 32
"""An owner is 16 bytes for the layer, then 16 for the index."""
_FIELDS: Final = struct.Struct("<4sBxxxIIQQ32s")
_CHECK: Final = struct.Struct("<I")
_MAGIC: Final = b"snC1"
HEADER_BYTES: Final = _FIELDS.size + _CHECK.size


class Kind(IntEnum):
    """What a record says."""

    CHUNK = 0
    DROP = 1
    """Here was a chunk; neither it nor one of its owner and number written before is to be used."""
    FORGET = 2
    """No chunk of this owner's layer, written before, is to be used."""


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed header.

    Attributes:
        kind: what it says.
        size: bytes that follow the header.
        check: CRC-32 of these bytes.
        number: of the piece.
        offset: of the header in its file.
        owner: layer and index.
    """

    kind: Kind
    size: int
    check: int
    number: int
    offset: int
    owner: bytes

    @property
    def end(self) -> int:
        """Offset behind its bytes."""
        return self.offset + HEADER_BYTES + self.size

    def pack(self) -> bytes:
        """Return the header."""
        fields = _FIELDS.pack(
            _MAGIC, self.kind, self.size, self.check, self.number, self.offset, self.owner
        )
        return fields + _CHECK.pack(zlib.crc32(fields))


def parse(data: bytes, at: int = 0) -> Record | None:
    """Return the header at `at`, None if there is no sound one."""
    if len(data) - at < HEADER_BYTES:
        return None
    (check,) = _CHECK.unpack_from(data, at + _FIELDS.size)
    if zlib.crc32(memoryview(data)[at : at + _FIELDS.size]) != check:
        return None
    magic, kind, size, crc, number, offset, owner = _FIELDS.unpack_from(data, at)
    if magic != _MAGIC or kind not in Kind.__members__.values():
        return None
    return Record(Kind(kind), size, crc, number, offset, owner)


def pack_table(records: Iterable[Record]) -> bytes:
    """Return headers in a row with a checksum of them all."""
    table = b"".join(record.pack() for record in records)
    return table + _CHECK.pack(zlib.crc32(table))


def parse_table(data: bytes) -> list[Record] | None:
    """Return the headers of a table, None if it is damaged."""
    body = data[: -_CHECK.size]
    if len(body) % HEADER_BYTES or data[-_CHECK.size :] != _CHECK.pack(zlib.crc32(body)):
        return None
    records = [parse(body, at) for at in range(0, len(body), HEADER_BYTES)]
    sound = [record for record in records if record is not None]
    return sound if len(sound) == len(records) else None
