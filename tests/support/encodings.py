"""Many ways to write the same layer: dialects of tar, ways to write names, compressions."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import zstandard

from snapcore.archive import Entry, EntryType
from snapcore.oci import Descriptor, Digest
from snapcore.oci.descriptor import OCI_LAYER
from support.features import Feature, Features
from support.histories import SECOND
from support.layers import Layer
from support.layout import Layer as Stored
from support.layout import LayoutBuilder
from support.tars import BLOCK, GNU, TYPE_FLAGS, USTAR, V7, decimal, header, long_name, pad, pax

Dialect: TypeAlias = Literal["pax", "all-pax", "gnu", "ustar", "v7"]
Compression: TypeAlias = Literal["gzip", "zstd", ""]
_V7_TYPES: Final = (EntryType.FILE, EntryType.HARDLINK, EntryType.SYMLINK, EntryType.DIRECTORY)
_NAME: Final = 100
_PREFIX: Final = 155
_MOST_ID: Final = 8**7
_MOST_TIME: Final = 8**11 * SECOND
_RECORD: Final = 20 * BLOCK
_SKIPPABLE: Final = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"apart"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one layer is written.

    Attributes:
        dialect: of tar; an entry that does not fit is written as `pax`.
        leads: what may stand before a name; one is chosen for each.
        comment: begin with a global header that says nothing.
        end: bytes of zeros after the last entry; -1 fills a record of 20 blocks, as tar(1) does.
        compression: "" for none.
        pieces: gzip members or zstd frames.
    """

    dialect: Dialect = "pax"
    leads: tuple[bytes, ...] = (b"",)
    comment: bool = False
    end: int = 2 * BLOCK
    compression: Compression = "gzip"
    pieces: int = 1

    def __str__(self) -> str:
        leads = "|".join(lead.decode() or "bare" for lead in self.leads)
        compression = f"{self.compression} in {self.pieces}" if self.compression else "plain"
        comment = ", comment" if self.comment else ""
        return f"{self.dialect}, names {leads}, end {self.end}, {compression}{comment}"


def choose_encoding(rng: random.Random, features: Features) -> Encoding:
    """Choose how to write a layer, within the features."""

    def one_of(usual: str, **others: Feature) -> str:
        choices = [name for name, feature in others.items() if feature in features]
        return rng.choice(choices) if choices and rng.random() < 0.8 else usual

    dialects: dict[str, Dialect] = {"gnu": "gnu", "ustar": "ustar", "v7": "v7", "all": "all-pax"}
    dialect = dialects.get(
        one_of("", gnu=Feature.GNU, ustar=Feature.USTAR, v7=Feature.USTAR, all=Feature.PAX), "pax"
    )
    compressions: dict[str, Compression] = {"zstd": "zstd", "plain": ""}
    compression = compressions.get(one_of("", zstd=Feature.ZSTD, plain=Feature.PLAIN), "gzip")
    several = Feature.ZSTD if compression == "zstd" else Feature.MEMBERS
    return Encoding(
        dialect,
        rng.choice(((b"./",), (b"/",), (b"", b"./", b"//", b".//./")))
        if Feature.PREFIXES in features
        else (b"",),
        dialect == "all-pax" and rng.random() < 0.5,
        rng.choice((0, BLOCK, 2 * BLOCK, -1)) if Feature.ENDS in features else 2 * BLOCK,
        compression,
        rng.randint(2, 5) if compression and several in features else 1,
    )


def tar_bytes(layer: Layer, encoding: Encoding, rng: random.Random) -> bytes:
    """Return a layer as a tar."""
    parts = [pax([(b"comment", b"nothing")], type=b"g")] if encoding.comment else []
    parts += [_written(item, data, encoding, rng) for item, data in layer]
    tar = b"".join(parts)
    return tar + bytes(encoding.end if encoding.end >= 0 else -len(tar) % _RECORD or _RECORD)


def compressed(tar: bytes, encoding: Encoding, rng: random.Random) -> bytes:
    """Return a tar compressed, in so many pieces."""
    cuts = sorted(rng.randint(0, len(tar)) for _ in range(encoding.pieces - 1))
    pieces = [tar[a:b] for a, b in zip([0, *cuts], [*cuts, len(tar)], strict=True)]
    if encoding.compression == "gzip":
        return b"".join(map(_member, pieces))
    if encoding.compression == "zstd":
        packer = zstandard.ZstdCompressor(level=1, write_checksum=rng.random() < 0.5)
        between = _SKIPPABLE if encoding.pieces > 1 else b""
        return between.join(map(packer.compress, pieces))
    return tar


def add_encoded(
    builder: LayoutBuilder, layer: Layer, encoding: Encoding, rng: random.Random
) -> Stored:
    """Store a layer in a layout."""
    tar = tar_bytes(layer, encoding, rng)
    media_type = f"{OCI_LAYER}+{encoding.compression}" if encoding.compression else OCI_LAYER
    blob: Descriptor = builder.add_blob(compressed(tar, encoding, rng), media_type)
    return Stored(blob, Digest.of(tar))


def _member(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def _written(item: Entry, data: bytes, encoding: Encoding, rng: random.Random) -> bytes:
    name = rng.choice(encoding.leads) + b"/".join(item.path)
    if item.type is EntryType.DIRECTORY:
        name = name.rstrip(b"/") + b"/" if item.path else b"./"
    dialect = encoding.dialect if _fits(name, item, encoding.dialect) else "pax"
    writers = {"gnu": _gnu, "ustar": _ustar, "v7": _v7}
    if dialect in writers:
        return writers[dialect](name, item, data)
    return _pax(name, item, data, whole=dialect == "all-pax")


def _fits(name: bytes, item: Entry, dialect: Dialect) -> bool:
    if dialect in ("pax", "all-pax"):
        return True
    if item.xattrs or item.mtime % SECOND:
        return False
    if dialect == "gnu":
        return True
    small = max(item.uid, item.gid) < _MOST_ID and 0 <= item.mtime < _MOST_TIME
    if dialect == "v7":
        named = len(name) <= _NAME and len(item.link) <= _NAME
        return small and named and item.type in _V7_TYPES
    return small and len(item.link) <= _NAME and _split(name) is not None


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Return prefix and name for a ustar header; None if it fits at no `/`."""
    if len(name) <= _NAME:
        return b"", name
    for at, byte in enumerate(name):
        if byte == ord("/") and 0 < at <= _PREFIX and 0 < len(name) - at - 1 <= _NAME:
            return name[:at], name[at + 1 :]
    return None


def _ustar(name: bytes, item: Entry, data: bytes) -> bytes:
    split = _split(name)
    assert split is not None
    prefix, rest = split
    return _block(rest, item, data, prefix=prefix) + pad(data)


def _v7(name: bytes, item: Entry, data: bytes) -> bytes:
    kind = b"\0" if item.type in (EntryType.FILE, EntryType.DIRECTORY) else TYPE_FLAGS[item.type]
    return _block(name, item, data, magic=V7, kind=kind) + pad(data)


def _gnu(name: bytes, item: Entry, data: bytes) -> bytes:
    parts = []
    if len(item.link) > _NAME:
        parts.append(long_name(item.link, type=b"K"))
    if len(name) > _NAME:
        parts.append(long_name(name))
    return b"".join([*parts, _block(name, item, data, magic=GNU), pad(data)])


def _pax(name: bytes, item: Entry, data: bytes, *, whole: bool) -> bytes:
    records: list[tuple[bytes, bytes]] = []
    if whole or len(name) > _NAME:
        records.append((b"path", name))
    if item.link and (whole or len(item.link) > _NAME):
        records.append((b"linkpath", item.link))
    if whole:
        records += [(b"uid", b"%d" % item.uid), (b"gid", b"%d" % item.gid)]
        records.append((b"size", b"%d" % len(data)))
    if whole or item.mtime % SECOND:
        records.append((b"mtime", decimal(item.mtime)))
    records += [(b"SCHILY.xattr." + key, value) for key, value in item.xattrs]
    return b"".join([pax(records) if records else b"", _block(name, item, data), pad(data)])


def _block(
    name: bytes,
    item: Entry,
    data: bytes,
    *,
    prefix: bytes = b"",
    magic: bytes = USTAR,
    kind: bytes = b"",
) -> bytes:
    return header(
        name[:_NAME],
        type=kind or TYPE_FLAGS[item.type],
        mode=item.mode,
        uid=item.uid,
        gid=item.gid,
        size=len(data),
        mtime=item.mtime // SECOND,
        link=item.link[:_NAME],
        magic=magic,
        major=item.major,
        minor=item.minor,
        prefix=prefix,
    )


def describe_encodings(encodings: Sequence[Encoding]) -> str:
    """Return all layers' encodings in words, the base first."""
    return "; ".join(f"layer {number}: {each}" for number, each in enumerate(encodings))
