"""Layers that attack by compression, by sheer amount, and by what they claim to be.

The node that they meet has small budgets, see `ground.LIMITS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from snapcore.errors import DigestMismatch
from snapcore.oci import Digest
from support import tars
from support.hostile.case import HostileLayer, Packed, accepted, known, plain, raw, refused
from support.layers import file
from support.layout import Compression, compressed
from support.tars import header, pax

MIB: Final = 1 << 20
_Y: Final = tars.tar(tars.file(b"y", b"y"))
_ODD: Final = {
    "gzip-members": "one archive in two members, cut in a header",
    "gzip-named": "a file name and a comment in the gzip header, with `..`",
    "zstd-skippable": "skippable frames around two data frames",
    "gzip-said-to-be-zstd": "a media type that contradicts the bytes, which decide",
    "gzip-said-to-be-plain": "likewise: gzip, where none is said",
    "plain-said-to-be-gzip": "likewise: none, where gzip is said",
}
_FOREIGN: Final = Digest.of(b"something else")


def _gzip(data: bytes) -> Packed:
    return Packed(tars.gzipped(data), Digest.of(data), "gzip")


def _own(name: str, pack: Callable[[bytes], bytes], compression: Compression) -> HostileLayer:
    """Return a case that is accepted: a file of its own, packed in an odd way."""
    tar = tars.tar(tars.file(b"y", name.encode()))
    return accepted(
        name, _ODD[name], lambda: Packed(pack(tar), Digest.of(tar), compression),
        [file("y", name.encode())],
    )  # fmt: skip


def _bad(blob: bytes, compression: Compression) -> Packed:
    """Return a blob that no diff ID fits: with a known one nobody would look at it."""
    return Packed(blob, _FOREIGN, compression)


def _zeros(size: int, compression: Compression) -> Callable[[], Packed]:
    def make() -> Packed:
        blob = compressed(tars.tar(header(b"zeros", size=size), bytes(size)), compression)
        return Packed(blob, _FOREIGN, compression)

    return make


def _zstd_frame(descriptor: int, rest: bytes) -> Callable[[], Packed]:
    return lambda: _bad(b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + rest, "zstd")


def _rle(count: int) -> Packed:
    """Return a gzip layer of one file of 0x55, made by hand: no memory, nearly no bytes."""
    packer = zlib.compressobj(9, wbits=31)
    blob = packer.compress(header(b"rle", size=count * MIB))
    for _ in range(count):
        blob += packer.compress(b"\x55" * MIB)
    return Packed(blob + packer.flush(), _FOREIGN, "gzip")


def _rle_files(count: int) -> Packed:
    """Return a gzip layer of files of 6 MiB each, every one of them within the budget."""
    packer = zlib.compressobj(9, wbits=31)
    blob = b""
    for number in range(count):
        blob += packer.compress(header(b"part%d" % number, size=6 * MIB))
        for _ in range(6):
            blob += packer.compress(b"\x55" * MIB)
    return Packed(blob + packer.flush(), _FOREIGN, "gzip")


def _names(count: int) -> bytes:
    return tars.tar(*(header(b"n/%d" % number) for number in range(count)))


def _damaged(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


BOMBS: Final[tuple[HostileLayer, ...]] = (
    # --- gzip ----------------------------------------------------------------------------------
    refused("gzip-bomb", "zeros, 1000 to 1", _zeros(20 * MIB, "gzip"), "to 1"),
    refused("gzip-bomb-file", "one file past the budgets of bytes and ratio, whichever is first",
            lambda: _rle(40)),
    refused("gzip-bomb-tail", "zeros after the archive's end",
            lambda: _bad(tars.gzipped(_Y + bytes(20 * MIB)), "gzip"), "to 1"),
    refused("gzip-nested-members", "more members than the budget has",
            lambda: _bad(tars.gzipped(_Y) + tars.gzipped(b"") * 70, "gzip"), "members"),
    refused("gzip-cut", "cut off", lambda: _bad(tars.gzipped(_Y)[:-12], "gzip"), "cut off"),
    refused("gzip-cut-trailer", "cut off in its checksum",
            lambda: _bad(tars.gzipped(_Y)[:-1], "gzip"), "cut off"),
    refused("gzip-checksum", "a wrong checksum, after all data",
            lambda: _bad(_damaged(tars.gzipped(_Y), -6), "gzip"), "damaged"),
    refused("gzip-length", "a wrong length",
            lambda: _bad(_damaged(tars.gzipped(_Y), -2), "gzip"), "damaged"),
    refused("gzip-junk-after", "bytes after the last member: kept or dropped, by whom",
            lambda: _bad(tars.gzipped(_Y) + b"junk!", "gzip"), "no further member"),
    refused("gzip-zeros-after", "zeros after the last member",
            lambda: _bad(tars.gzipped(_Y) + bytes(512), "gzip"), "no further member"),
    refused("gzip-flags", "reserved flags",
            lambda: _bad(b"\x1f\x8b\x08\xe0" + tars.gzipped(_Y)[4:], "gzip"), "flags"),
    _own("gzip-members", lambda tar: tars.gzipped(tar[:100]) + tars.gzipped(tar[100:]), "gzip"),
    _own("gzip-named", lambda tar: b"\x1f\x8b\x08\x18" + bytes(5) + b"\xff../../x\0../y\0"
         + tars.gzipped(tar)[10:], "gzip"),
    # --- zstd ----------------------------------------------------------------------------------
    refused("zstd-bomb", "zeros, 10000 to 1", _zeros(20 * MIB, "zstd"), "to 1"),
    refused("zstd-window", "a window of 2 GiB", _zstd_frame(0x00, b"\xa8\1\0\0"), "window"),
    refused("zstd-content-size", "a frame that claims 2^63 bytes in one piece",
            _zstd_frame(0xE0, (1 << 63).to_bytes(8, "little") + b"\1\0\0"), "window"),
    refused("zstd-dictionary", "a dictionary that nobody has",
            _zstd_frame(0x21, b"\x01\x01\x01\0\0"), "dictionary"),
    refused("zstd-reserved", "a reserved bit", _zstd_frame(0x28, b"\x01\1\0\0"), "reserved bit"),
    refused("zstd-cut", "cut off: the decoder's stream takes that for an end",
            lambda: _bad(tars.zstandarded(_Y)[:-2], "zstd"), "cut off"),
    refused("zstd-checksum", "a wrong checksum",
            lambda: _bad(_damaged(tars.zstandarded(_Y), -1), "zstd"), "damaged"),
    refused("zstd-junk-after", "bytes after the last frame",
            lambda: _bad(tars.zstandarded(_Y) + b"junk", "zstd"), "no further frame"),
    refused("zstd-frames", "more frames than the budget has",
            lambda: _bad(tars.zstandarded(_Y) + tars.zstandarded(b"") * 70, "zstd"), "frames"),
    _own("zstd-skippable", lambda tar: b"\x50\x2a\x4d\x18\4\0\0\0evil"
         + tars.zstandarded(tar[:700]) + b"\x5f\x2a\x4d\x18\0\0\0\0"
         + tars.zstandarded(tar[700:]), "zstd"),
    # --- what it is ----------------------------------------------------------------------------
    refused("xz", "a compression that nobody announced", lambda: plain(b"\xfd7zXZ\0" + _Y)),
    refused("bzip2", "another", lambda: plain(b"BZh91AY&SY" + _Y)),
    refused("zip", "an archive of another kind", lambda: plain(b"PK\x03\x04" + bytes(600))),
    _own("gzip-said-to-be-zstd", tars.gzipped, "zstd"),
    _own("gzip-said-to-be-plain", tars.gzipped, "none"),
    _own("plain-said-to-be-gzip", bytes, "gzip"),
    refused("gzip-in-gzip", "twice compressed",
            lambda: _gzip(tars.gzipped(_Y)), "inside a header"),
    refused("wrong-diff-id", "another archive than the config says",
            lambda: replace(plain(_Y), diff_id=_FOREIGN), "diff ID", DigestMismatch),
    refused("diff-id-of-the-blob", "the compressed blob's digest as diff ID",
            lambda: replace(_gzip(_Y), diff_id=Digest.of(tars.gzipped(_Y))), "diff ID",
            DigestMismatch),
    # --- amounts -------------------------------------------------------------------------------
    known("pax-records", "more records than anybody needs"),
    known("pax-size", "a PAX header past its budget"),
    known("pax-size-2-62", "a PAX header of 2^62 bytes: allocated, or refused"),
    known("long-name-huge", "a long name of 2^40 bytes"),
    refused("size-past-the-budget", "a plain file past the budget of bytes, by its header alone",
            raw(header(b"y", size=40 * MIB)), "bytes of data"),
    refused("sizes-past-the-budget", "files that pass it together",
            lambda: _rle_files(5), "to 1"),
    refused("entries", "more entries than the budget has",
            lambda: _gzip(_names(3000)), "entries in one layer"),
    refused("entries-duplicates", "the same, all of one name",
            lambda: _gzip(tars.tar(tars.file(b"y") * 3000)), "entries in one layer"),
    refused("entries-whiteouts", "the same, all deletions",
            lambda: _gzip(tars.tar(*(tars.whiteout(b"d/%d" % n) for n in range(3000)))),
            "entries in one layer"),
    refused("xattrs-many", "5,000 xattrs on one file",
            raw(pax([(b"SCHILY.xattr.user.%d" % n, b"") for n in range(5000)]), header(b"y")),
            "PAX records"),
    refused("implied-directories", "two thousand levels and one more",
            raw(tars.file(b"d/" * 2048 + b"f")), "components"),
    accepted("deep", "many levels: who walks or deletes them must not recurse",
             raw(tars.file(b"v/" * 400 + b"f", b"f")), [file("v/" * 400 + "f", b"f")]),
)  # fmt: skip
