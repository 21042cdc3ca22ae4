"""A small tar builder for tests: every header field can be set, right or wrong.

Layers are concatenations of parts: `tar(directory(b"etc"), file(b"etc/a", b"data"))`. The entry
functions (`file`, `directory`, …) write well-formed archives and add PAX records where ustar is
too small; `header`, `pax`, `long_name` and `number` write exactly what they are told.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from snapcore.archive import EntryType

BLOCK = 512
END = bytes(2 * BLOCK)
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
V7 = bytes(8)
TYPE_FLAGS = {
    EntryType.FILE: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.CHARACTER: b"3",
    EntryType.BLOCK: b"4",
    EntryType.DIRECTORY: b"5",
    EntryType.FIFO: b"6",
}
NO_XATTRS: Mapping[bytes, bytes] = {}


def octal(value: int, width: int) -> bytes:
    """Return a field of `width` bytes: octal digits and a NUL."""
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """Return a GNU base-256 field: two's complement with the top bit of the field set."""
    raw = bytearray(value.to_bytes(width, "big", signed=True))
    raw[0] = raw[0] | 0x80 if value >= 0 else raw[0]
    return bytes(raw)


def number(value: int | bytes, width: int) -> bytes:
    """Return a numeric field: octal if it fits, else base-256; bytes are taken as they are."""
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    if 0 <= value < 8 ** (width - 1):
        return octal(value, width)
    return base256(value, width)


def header(
    name: bytes = b"file",
    *,
    type: bytes = b"0",  # noqa: A002 - the field's name
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    size: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = USTAR,
    uname: bytes = b"",
    gname: bytes = b"",
    major: int | bytes = 0,
    minor: int | bytes = 0,
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return one 512-byte header; the checksum is right unless one is given."""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            number(mode, 8),
            number(uid, 8),
            number(gid, 8),
            number(size, 12),
            number(mtime, 12),
            b" " * 8,
            type,
            link.ljust(100, b"\0"),
            magic,
            uname.ljust(32, b"\0"),
            gname.ljust(32, b"\0"),
            number(major, 8) if magic != V7 else bytes(8),
            number(minor, 8) if magic != V7 else bytes(8),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    assert len(block) == BLOCK, "a field is longer than its place"
    return with_checksum(block) if checksum is None else block[:148] + checksum + block[156:]


def with_checksum(block: bytes) -> bytes:
    """Return the header block with the right checksum in it."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def with_signed_checksum(block: bytes) -> bytes:
    """Return the header block with the checksum of old writers, who summed signed bytes."""
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(byte - 256 if byte > 127 else byte for byte in blank)
    return blank[:148] + b"%06o\0 " % total + blank[156:]


def pad(data: bytes) -> bytes:
    """Return data with zeros up to the next block."""
    return data + bytes(-len(data) % BLOCK)


def pax_record(key: bytes, value: bytes) -> bytes:
    """Return one `length key=value` record with the exact length."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(
    records: Sequence[tuple[bytes, bytes]] | bytes,
    *,
    type: bytes = b"x",  # noqa: A002 - the field's name
) -> bytes:
    """Return a PAX header and its body: records, or a raw body."""
    body = records if isinstance(records, bytes) else b"".join(pax_record(*r) for r in records)
    return header(b"PaxHeaders/x", type=type, size=len(body)) + pad(body)


def long_name(name: bytes, *, type: bytes = b"L") -> bytes:  # noqa: A002 - the field's name
    """Return a GNU long name (`L`) or long link (`K`) header and its body."""
    body = name + b"\0"
    return header(b"././@LongLink", type=type, size=len(body), magic=GNU) + pad(body)


@dataclass(frozen=True, slots=True)
class Meta:
    """What every entry carries; mtime in nanoseconds."""

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)


def entry(
    name: bytes,
    type: bytes,  # noqa: A002 - the field's name
    meta: Meta,
    *,
    link: bytes = b"",
    data: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return one entry of any type, with PAX records where ustar is too small."""
    seconds, fraction = divmod(meta.mtime, 1_000_000_000)
    records = [(b"SCHILY.xattr." + key, value) for key, value in meta.xattrs.items()]
    if len(name) > 100:
        records.append((b"path", name))
    if len(link) > 100:
        records.append((b"linkpath", link))
    if fraction:
        records.append((b"mtime", decimal(meta.mtime)))
    return b"".join(
        (
            pax(records) if records else b"",
            header(
                name[:100],
                type=type,
                mode=meta.mode,
                uid=meta.uid,
                gid=meta.gid,
                mtime=seconds,
                size=len(data),
                link=link[:100],
                major=device[0],
                minor=device[1],
            ),
            pad(data),
        )
    )


def decimal(nanoseconds: int) -> bytes:
    """Return a time as PAX records have it: seconds and a fraction."""
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return b"%s%d.%09d" % (sign, seconds, fraction)


def file(
    name: bytes,
    data: bytes = b"",
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    xattrs: Mapping[bytes, bytes] = NO_XATTRS,
) -> bytes:
    """Return a regular file; mtime in nanoseconds."""
    return entry(name, b"0", Meta(mode, uid, gid, mtime, xattrs), data=data)


def directory(
    name: bytes,
    *,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    xattrs: Mapping[bytes, bytes] = NO_XATTRS,
) -> bytes:
    """Return a directory; mtime in nanoseconds."""
    return entry(name.rstrip(b"/") + b"/", b"5", Meta(mode, uid, gid, mtime, xattrs))


def symlink(
    name: bytes,
    target: bytes,
    *,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    xattrs: Mapping[bytes, bytes] = NO_XATTRS,
) -> bytes:
    """Return a symbolic link; mtime in nanoseconds."""
    return entry(name, b"2", Meta(0o777, uid, gid, mtime, xattrs), link=target)


def hardlink(
    name: bytes, target: bytes, *, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0
) -> bytes:
    """Return a hard link to an earlier name; mtime in nanoseconds."""
    return entry(name, b"1", Meta(mode, uid, gid, mtime), link=target)


def device(
    name: bytes,
    major: int,
    minor: int,
    *,
    block: bool = False,
    mode: int = 0o600,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
) -> bytes:
    """Return a character or block device; mtime in nanoseconds."""
    kind = b"4" if block else b"3"
    return entry(name, kind, Meta(mode, uid, gid, mtime), device=(major, minor))


def fifo(name: bytes, *, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0) -> bytes:
    """Return a FIFO; mtime in nanoseconds."""
    return entry(name, b"6", Meta(mode, uid, gid, mtime))


def whiteout(name: bytes) -> bytes:
    """Return the whiteout of a path: an empty file `.wh.NAME` beside it."""
    parent, slash, base = name.rpartition(b"/")
    return file(parent + slash + b".wh." + base)


def opaque(parent: bytes = b"") -> bytes:
    """Return the opaque marker of a directory."""
    return file((parent.rstrip(b"/") + b"/" if parent else b"") + b".wh..wh..opq")


def tar(*parts: bytes) -> bytes:
    """Return an archive of these parts with the two zero blocks at its end."""
    return b"".join(parts) + END


def gzipped(data: bytes, level: int = 1) -> bytes:
    """Return one reproducible gzip member."""
    return gzip.compress(data, level, mtime=0)


def gunzipped(data: bytes) -> bytes:
    """Return what `gzipped` had."""
    return gzip.decompress(data)


def zstandarded(data: bytes) -> bytes:
    """Return one zstd frame with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)
