"""Valid archives, and what becomes of them by small changes that leave checksums right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from support import tars
from support.tars import BLOCK, GNU, V7

_FIELDS: Final[Sequence[slice]] = (
    slice(0, 100), slice(100, 108), slice(108, 116), slice(116, 124), slice(124, 136),
    slice(136, 148), slice(156, 157), slice(157, 257), slice(257, 265), slice(265, 297),
    slice(297, 329), slice(329, 337), slice(337, 345), slice(345, 500), slice(500, 512),
)  # fmt: skip
"""Where the fields of a header are, the checksum left out (POSIX.1-2017, pax)."""
_SIZE: Final = slice(124, 136)
_TYPE: Final = 156
_WORDS: Final[Sequence[bytes]] = (
    b"", b"\0", b"/", b"./", b"../x", b"a/", b"0", b"7", b"00000000001", b"00000001000\0",
    b"77777777777", b"\x80" + bytes(10) + b"\x01", b"\xff" * 12, b"-1", b" 12 ", b"0x10",
    b"ustar\x0000", b"ustar  \0", b"ustar\0", b"K", b"L", b"x", b"g", b"5", b"1", b"2", b"S",
)  # fmt: skip
_RECORDS: Final[Sequence[tuple[bytes, bytes]]] = (
    (b"path", b"pax/name"), (b"path", b""), (b"linkpath", b"target"), (b"size", b"3"),
    (b"size", b"512"), (b"size", b"0"), (b"uid", b"1"), (b"mtime", b"1.5"), (b"comment", b"c"),
    (b"SCHILY.xattr.user.a", b"1"), (b"hdrcharset", b"BINARY"), (b"GNU.sparse.major", b"1"),
)  # fmt: skip


def seeds() -> Sequence[bytes]:
    """Return valid archives of every kind of header."""
    pieces = (
        tars.directory(b"usr"),
        tars.file(b"usr/a", b"a" * 700, mtime=1_500_000_001),
        tars.symlink(b"bin", b"usr/bin"),
        tars.hardlink(b"usr/b", b"usr/a"),
        tars.device(b"null", 1, 3),
        tars.fifo(b"pipe"),
    )
    long = (
        tars.file(b"n" * 150, b"data", xattrs={b"user.a": b"\0\n"}),
        tars.long_name(b"usr/" + b"l" * 120) + tars.header(b"short", size=3, magic=GNU)
        + tars.pad(b"abc"),
        tars.long_name(b"t" * 120, type=b"K")
        + tars.header(b"link", type=b"2", link=b"t" * 100, magic=GNU),
        tars.pax([(b"comment", b"c")], type=b"g"),
        tars.file(b"last", b"x" * 512),
    )  # fmt: skip
    old = (
        tars.header(b"old/", type=b"\0", magic=V7, mode=0o755),
        tars.header(b"old/file", type=b"\0", magic=V7, size=5) + tars.pad(b"12345"),
        tars.header(b"name", prefix=b"prefix/of", size=2) + tars.pad(b"12"),
        tars.header(b"gnu", magic=GNU, size=1) + tars.pad(b"1"),
    )
    nested = (tars.file(b"outer", tars.tar(tars.file(b"inner", b"i"))), tars.file(b"after"))
    return [tars.tar(*parts) for parts in (pieces, long, old, nested, (*long, *old, *pieces))]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Yield so many mutants, always the same ones for a seed."""
    source = random.Random(seed)
    archives = seeds()
    for _ in range(count):
        blocks = _blocks(source.choice(archives))
        for _ in range(source.choice((1, 1, 1, 2, 3))):
            source.choice(_CHANGES)(blocks, source)
        yield b"".join(blocks)


def _blocks(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def _is_header(block: bytes) -> bool:
    return len(block) == BLOCK and block[148:154].isdigit() and any(block[:100])


def _headers(blocks: list[bytes]) -> list[int]:
    return [number for number, block in enumerate(blocks) if _is_header(block)] or [0]


def _with(block: bytes, place: slice, data: bytes) -> bytes:
    size = place.stop - place.start
    changed = block[: place.start] + data[:size].ljust(size, b"\0") + block[place.stop :]
    return tars.with_checksum(changed) if _is_header(block) else changed


def _flip(blocks: list[bytes], source: random.Random) -> None:
    at = source.choice(_headers(blocks))
    place = source.randrange(len(blocks[at]))
    bit = bytes([blocks[at][place] ^ (1 << source.randrange(8))])
    blocks[at] = _with(blocks[at], slice(place, place + 1), bit)


def _field(blocks: list[bytes], source: random.Random) -> None:
    at = source.choice(_headers(blocks))
    blocks[at] = _with(blocks[at], source.choice(_FIELDS), source.choice(_WORDS))


def _type(blocks: list[bytes], source: random.Random) -> None:
    at = source.choice(_headers(blocks))
    kind = bytes([source.choice(b"\0001234567xgLKSAVMDN")])
    blocks[at] = _with(blocks[at], slice(_TYPE, _TYPE + 1), kind)


def _size(blocks: list[bytes], source: random.Random) -> None:
    at = source.choice(_headers(blocks))
    size = source.choice((0, 1, 3, 511, 512, 513, 1024, 1536, 2**33, 2**62))
    blocks[at] = _with(blocks[at], _SIZE, tars.number(size, 12))


def _swap(blocks: list[bytes], source: random.Random) -> None:
    one, other = source.choice(_headers(blocks)), source.choice(_headers(blocks))
    place = source.choice(_FIELDS)
    taken = blocks[one][place]
    blocks[one] = _with(blocks[one], place, blocks[other][place])
    blocks[other] = _with(blocks[other], place, taken)


def _record(blocks: list[bytes], source: random.Random) -> None:
    body = b"".join(tars.pax_record(*source.choice(_RECORDS)) for _ in range(source.randint(1, 2)))
    if source.random() < 0.3:
        at = source.randrange(len(body))
        body = body[:at] + bytes([source.choice(b"0129= \n\0a")]) + body[at + 1 :]
    kind = source.choice((b"x", b"x", b"x", b"g"))
    at = source.choice(_headers(blocks))
    blocks[at:at] = _blocks(tars.pax(body, type=kind))


def _long(blocks: list[bytes], source: random.Random) -> None:
    name = source.choice((b"long/name", b"d/", b"n" * 600, b"../x", b"nul\0inside"))
    at = source.choice(_headers(blocks))
    blocks[at:at] = _blocks(tars.long_name(name, type=source.choice((b"L", b"K"))))


def _double(blocks: list[bytes], source: random.Random) -> None:
    at = source.randrange(len(blocks))
    blocks.insert(source.randrange(len(blocks)), blocks[at])


def _drop(blocks: list[bytes], source: random.Random) -> None:
    if len(blocks) > 1:
        del blocks[source.randrange(len(blocks))]


def _exchange(blocks: list[bytes], source: random.Random) -> None:
    one, other = source.randrange(len(blocks)), source.randrange(len(blocks))
    blocks[one], blocks[other] = blocks[other], blocks[one]


def _cut(blocks: list[bytes], source: random.Random) -> None:
    del blocks[source.randint(1, len(blocks)) :]
    if source.random() < 0.5:
        blocks[-1] = blocks[-1][: source.randint(1, BLOCK)]


def _zeros(blocks: list[bytes], source: random.Random) -> None:
    blocks.insert(source.randrange(len(blocks) + 1), bytes(BLOCK))


_CHANGES: Final[Sequence[Callable[[list[bytes], random.Random], None]]] = (
    _flip, _field, _field, _type, _size, _swap, _swap, _record, _record, _long, _double, _drop,
    _exchange, _cut, _zeros,
)  # fmt: skip
