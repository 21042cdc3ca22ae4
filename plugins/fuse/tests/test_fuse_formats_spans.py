"""Span indexes: every stretch of every layer is read as it is, and hostile indexes are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec
import pytest
import zstandard
from support import tars
from support.images import debian_tar, require_tools

from snapcore.archive import BlockReader, Limits, TarReader
from snapcore.errors import DataLoss, DigestMismatch, RefusedInput
from snapcore.oci import Digest
from snapcore_fuse.formats import LayerFormat, LayerReader, LayerSource, build_index, load_index
from snapcore_fuse.formats.envelope import numbers, seal, to_bytes, unseal
from snapcore_fuse.formats.spans import SpanIndex
from snapcore_fuse.formats.spans.index import _Document
from snapcore_fuse.formats.spans.reader import MEMBER

Packer: TypeAlias = Callable[[bytes], bytes]
LIMITS = Limits()
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
SPAN = 20_000


def words(rng: random.Random, size: int) -> bytes:
    """Return what deflate finds references in all over, but cannot make small blocks of."""
    known = [rng.randbytes(rng.randrange(3, 12)).hex().encode() for _ in range(300)]
    return b"".join(rng.choice(known) + rng.randbytes(8) for _ in range(size // 20))[:size]


def a_tar(seed: int, size: int = 200_000) -> bytes:
    rng = random.Random(seed)
    return tars.tar(
        tars.directory(b"d"),
        tars.file(b"d/text", words(rng, size)),
        tars.file(b"d/empty"),
        tars.symlink(b"d/link", b"text"),
        tars.file(b"d/noise", rng.randbytes(size // 2)),
        tars.hardlink(b"d/hard", b"d/text"),
        tars.file(b"d/zeros", bytes(size)),
        tars.device(b"d/null", 1, 3),
        *(tars.file(b"d/%d" % n, words(rng, n), xattrs={b"user.n": b"%d" % n}) for n in range(40)),
    )


def blocks(blob: bytes, size: int = 5000) -> Iterator[bytes]:
    return (blob[at : at + size] for at in range(0, len(blob), size))


def source_of(blob: bytes, tar: bytes) -> LayerSource:
    return LayerSource(Digest.of(blob), len(blob), GZIP, Digest.of(tar))


def build(blob: bytes, tar: bytes, limits: Limits = LIMITS) -> SpanIndex:
    return build_index(blocks(blob), source_of(blob, tar), limits, gzip_span=SPAN)


def read(reader: LayerReader, blob: bytes, start: int, size: int) -> bytes:
    found = b""
    for piece in reader.pieces(start, size):
        data = reader.decode(piece, blob[piece.blob.offset : piece.blob.end])
        assert len(data) == piece.size
        found += data[max(0, start - piece.start) : start + size - piece.start]
    return found


def pieces_of(index: SpanIndex, blob: bytes) -> list[bytes]:
    return [
        read(index.reader, blob, piece.start, piece.size)
        for piece in map(index.reader.piece, range(index.reader.count))
    ]


def members(tar: bytes, sizes: Callable[[int], int]) -> bytes:
    """Return a tar in gzip members of these sizes."""
    out, at = b"", 0
    for number in itertools.count():
        if at >= len(tar):
            return out
        out += gzip.compress(tar[at : at + sizes(number)], 6, mtime=0)
        at += sizes(number)
    raise AssertionError


def flushed(tar: bytes, kind: int) -> bytes:
    """Return one member with a flush every 3000 bytes."""
    packer = zlib.compressobj(6, wbits=31)
    parts = [packer.compress(block) + packer.flush(kind) for block in blocks(tar, 3000)]
    return b"".join(parts) + packer.flush()


def named(tar: bytes) -> bytes:
    """Return a member with a name in its header."""
    out = io.BytesIO()
    with gzip.GzipFile("layer.tar", "wb", 6, out, mtime=1) as file:
        file.write(tar)
    return out.getvalue()


def packer(level: int = 6, window: int = 31, memory: int = 8, strategy: int = 0) -> Packer:
    """Return what makes one member."""

    def pack(tar: bytes) -> bytes:
        stream = zlib.compressobj(level, zlib.DEFLATED, window, memory, strategy)
        return stream.compress(tar) + stream.flush()

    return pack


PACKERS: dict[str, Packer] = {
    "level0": packer(0),
    "level1": packer(1),
    "level6": packer(6),
    "level9": packer(9),
    "huffman": packer(strategy=zlib.Z_HUFFMAN_ONLY),
    "fixed": packer(strategy=zlib.Z_FIXED),
    "memlevel1": packer(memory=1),
    "small-window": packer(window=25),
    "many-members": lambda tar: members(tar, lambda n: 700),
    "odd-members": lambda tar: members(tar, lambda n: (1, 100_000, 30, 7000)[n % 4]),
    "empty-members": lambda tar: gzip.compress(b"") + gzip.compress(tar) + gzip.compress(b"") * 3,
    "sync-flush": lambda tar: flushed(tar, zlib.Z_SYNC_FLUSH),
    "full-flush": lambda tar: flushed(tar, zlib.Z_FULL_FLUSH),
    "named": named,
    "plain": lambda tar: tar,
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS.keys())
def test_every_stretch_is_read_as_it_is_in_the_tar(pack: Packer) -> None:
    tar = a_tar(1)
    blob = pack(tar)
    index = build(blob, tar)
    reader = index.reader
    assert reader.size == len(tar)
    assert b"".join(pieces_of(index, blob)) == tar
    assert reader.count > 1
    rng = random.Random(2)
    for _ in range(20):
        start = rng.randrange(len(tar))
        size = rng.randrange(min(50_000, len(tar) - start))
        assert read(reader, blob, start, size) == tar[start : start + size]
    assert list(reader.pieces(5, 0)) == []
    with pytest.raises(IndexError):
        list(reader.pieces(len(tar), 1))


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS.keys())
def test_entries_are_those_of_the_strict_reader_with_the_place_of_their_bytes(
    pack: Packer,
) -> None:
    tar = a_tar(3, 50_000)
    blob = pack(tar)
    index = build(blob, tar)
    rest = [tar]
    reader = TarReader(BlockReader(lambda: rest.pop() if rest else b""), LIMITS)
    for wanted, found in zip(reader, index.entries(), strict=True):
        assert found.entry == wanted
        data = read(index.reader, blob, found.start, wanted.size)
        assert data == b"".join(map(bytes, reader.payload()))


@pytest.mark.parametrize("processes", [1, 3])
def test_what_pigz_wrote_is_read(processes: int) -> None:
    require_tools("pigz")
    tar = a_tar(4, 500_000)
    blob = subprocess.run(
        ["pigz", "-p", str(processes), "-b", "128"], input=tar, capture_output=True, check=True
    ).stdout
    index = build(blob, tar)
    assert b"".join(pieces_of(index, blob)) == tar
    assert index.reader.count > 5


@pytest.mark.long
def test_a_real_layer_is_read_span_by_span(tmp_path_factory: pytest.TempPathFactory) -> None:
    tar = debian_tar(tmp_path_factory).read_bytes()
    blob = gzip.compress(tar, 6, mtime=0)
    index = build_index(blocks(blob, 1 << 17), source_of(blob, tar), LIMITS)
    assert b"".join(pieces_of(index, blob)) == tar


@pytest.mark.parametrize("tar", [b"", bytes(1024), tars.tar(tars.file(b"a", b"b"))])
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_the_smallest_layers(tar: bytes, packed: bool) -> None:
    blob = gzip.compress(tar) if packed else tar
    index = build(blob, tar)
    assert b"".join(pieces_of(index, blob)) == tar
    kept = SpanIndex.from_bytes(index.to_bytes(), source_of(blob, tar), LIMITS)
    assert list(kept.entries()) == list(index.entries())


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_the_index_does_not_depend_on_how_the_blob_came(size: int) -> None:
    tar = a_tar(5, 30_000)
    blob = members(tar, lambda n: 40_000)
    source = source_of(blob, tar)
    once = build_index([blob], source, LIMITS, gzip_span=SPAN).to_bytes()
    assert build_index(blocks(blob, size), source, LIMITS, gzip_span=SPAN).to_bytes() == once


def test_a_place_within_a_byte_and_a_window_are_really_used() -> None:
    tar = a_tar(6)
    index = build(gzip.compress(tar, 6, mtime=0), tar)
    assert any(0 < mode < MEMBER for mode in index._spans.modes)
    assert any(index._spans.windows)


@pytest.mark.parametrize("pack", ["level6", "odd-members", "plain"])
def test_a_kept_index_says_the_same(pack: str) -> None:
    tar = a_tar(7)
    blob = PACKERS[pack](tar)
    index = build(blob, tar)
    kind = LayerFormat.TAR if pack == "plain" else LayerFormat.GZIP_SPANS
    assert index.format is kind
    again = load_index(index.to_bytes(), kind, source_of(blob, tar), LIMITS)
    assert isinstance(again, SpanIndex)
    assert pieces_of(again, blob) == pieces_of(index, blob)
    assert list(again.entries()) == list(index.entries())
    assert again.to_bytes() == index.to_bytes()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda blob: blob[:-1], RefusedInput),
        (lambda blob: blob[: len(blob) // 2], RefusedInput),
        (lambda blob: blob[:5], RefusedInput),
        (lambda blob: blob + b"x", RefusedInput),
        (lambda blob: blob[:1000] + b"\xff\xff\xff\xff" + blob[1004:], RefusedInput),
        (lambda blob: blob[:-8] + bytes(4) + blob[-4:], RefusedInput),
        (lambda blob: blob + gzip.compress(b"x"), RefusedInput),
        (lambda blob: blob + gzip.compress(b"\0"), DigestMismatch),
        (lambda blob: b"", DigestMismatch),
    ],
    ids=["cut", "half", "head", "garbage", "damaged", "checksum", "more", "longer", "empty"],
)  # fmt: skip
def test_a_blob_that_is_not_the_layer_gives_no_index(
    spoil: Callable[[bytes], bytes], error: type[Exception]
) -> None:
    tar = a_tar(8, 20_000)
    blob = gzip.compress(tar, 6, mtime=0)
    with pytest.raises(error):
        build_index(blocks(spoil(blob)), source_of(blob, tar), LIMITS)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(size=250_000), "larger than the 250000 bytes"),
        (Limits(members=3), "more than 3 gzip members"),
        (Limits(entries=3), "more than 3 entries"),
    ],
    ids=["size", "members", "entries"],
)
def test_budgets_hold_while_an_index_is_made(limits: Limits, match: str) -> None:
    tar = a_tar(9)
    with pytest.raises(RefusedInput, match=match):
        build(members(tar, lambda n: 100_000), tar, limits)


def test_a_bomb_is_refused_by_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapcore_fuse.formats.spans.cutter._RATIO_FREE", 1 << 20)
    blob = gzip.compress(bytes(4 << 20), 9)
    with pytest.raises(RefusedInput, match="more than 200 to 1"):
        build_index([blob], source_of(blob, b""), Limits(ratio=200))


def test_a_blob_without_places_to_begin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapcore_fuse.formats.spans.found.MAX_SPAN", 30_000)
    tar = tars.tar(tars.file(b"zeros", bytes(300_000)))
    with pytest.raises(RefusedInput, match="no place to begin"):
        build(gzip.compress(tar), tar)


@pytest.fixture(scope="module")
def layer() -> tuple[bytes, bytes, SpanIndex]:
    tar = a_tar(10)
    blob = gzip.compress(tar, 6, mtime=0)
    return tar, blob, build(blob, tar)


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: data[:-20] + bytes(20),
        lambda data: bytes([data[0] ^ 0xFF]) + data[1:],
        lambda data: data[:40] + b"\xff" * 20 + data[60:],
    ],
    ids=["nothing", "half", "zeros", "end", "first", "middle"],
)
def test_bytes_that_are_not_the_promised_ones_are_data_loss(
    layer: tuple[bytes, bytes, SpanIndex], number: int, spoil: Callable[[bytes], bytes]
) -> None:
    _, blob, index = layer
    piece = index.reader.piece(number % index.reader.count)
    with pytest.raises(DataLoss, match=f"span {piece.number} of a layer"):
        index.reader.decode(piece, spoil(blob[piece.blob.offset : piece.blob.end]))


def test_each_damaged_byte_of_a_kept_index_is_noticed() -> None:
    tar = tars.tar(tars.file(b"a", b"b"), tars.symlink(b"c", b"d"))
    source = source_of(gzip.compress(tar, mtime=0), tar)
    kept = build(gzip.compress(tar, mtime=0), tar).to_bytes()
    for at in range(len(kept)):
        damaged = bytearray(kept)
        damaged[at] ^= 0x41
        with pytest.raises((DataLoss, RefusedInput)):
            SpanIndex.from_bytes(bytes(damaged), source, LIMITS)
    for length in range(len(kept)):
        with pytest.raises((DataLoss, RefusedInput)):
            SpanIndex.from_bytes(kept[:length], source, LIMITS)


def test_an_index_of_another_layer_is_refused(layer: tuple[bytes, bytes, SpanIndex]) -> None:
    tar, blob, index = layer
    for other in (
        LayerSource(Digest.of(b"other"), len(blob), GZIP, Digest.of(tar)),
        LayerSource(Digest.of(blob), len(blob), GZIP, Digest.of(b"other")),
        LayerSource(Digest.of(blob), len(blob) + 1, GZIP, Digest.of(tar)),
    ):
        with pytest.raises(RefusedInput):
            SpanIndex.from_bytes(index.to_bytes(), other, LIMITS)


def q(*values: int) -> bytes:
    return to_bytes(numbers("Q", values))


def changed(data: bytes, at: int, value: int) -> bytes:
    """Return a column of 64-bit numbers with one of them changed."""
    at %= len(data) // 8
    return data[: at * 8] + q(value) + data[at * 8 + 8 :]


@pytest.mark.parametrize(
    "lie",
    [
        lambda d: {"spans": d.spans + 1},
        lambda d: {"spans": -1},
        lambda d: {"spans": 2**62},
        lambda d: {"starts": d.starts[:-8]},
        lambda d: {"starts": changed(d.starts, 0, 1)},
        lambda d: {"starts": changed(d.starts, 1, 0)},
        lambda d: {"starts": changed(d.starts, 2, 2**62)},
        lambda d: {"starts": changed(d.starts, -1, 2**62)},
        lambda d: {"starts": changed(d.starts, -1, 2**63)},
        lambda d: {"places": changed(d.places, 0, 5)},
        lambda d: {"places": changed(d.places, 2, 0)},
        lambda d: {"places": changed(d.places, -1, 2**62)},
        lambda d: {"modes": d.modes[1:]},
        lambda d: {"modes": b"\x09" + d.modes[1:]},
        lambda d: {"modes": b"\x00" + d.modes[1:]},
        lambda d: {"modes": d.modes[:-1] + b"\xff"},
        lambda d: {"windows": d.windows[1:]},
        lambda d: {"digests": d.digests[1:]},
        lambda d: {"format": LayerFormat.TAR},
        lambda d: {"format": LayerFormat.ESTARGZ},
        lambda d: {"layer": "sha256:x"},
    ],
)  # fmt: skip
def test_an_index_that_contradicts_itself_is_refused(
    layer: tuple[bytes, bytes, SpanIndex], lie: Callable[[_Document], dict[str, object]]
) -> None:
    tar, blob, index = layer
    document = unseal(index.to_bytes(), _Document)
    hostile = seal(msgspec.structs.replace(document, **lie(document)))
    with pytest.raises(RefusedInput):
        SpanIndex.from_bytes(hostile, source_of(blob, tar), LIMITS)


@pytest.mark.parametrize(
    "lie",
    [
        lambda d: {"windows": (*d.windows[:-1], b"no frame")},
        lambda d: {"windows": (b"",) * len(d.windows)},
        lambda d: {"windows": (*d.windows[:-1], tars.zstandarded(bytes(1 << 24)))},
        lambda d: {"modes": d.modes[:-1] + bytes([(d.modes[-1] + 1) % 8])},
        lambda d: {"digests": d.digests[:-1] + b"x"},
        lambda d: {"places": changed(d.places, -2, int.from_bytes(d.places[-16:-8], "little") - 9)},
        lambda d: {"starts": changed(d.starts, -2, int.from_bytes(d.starts[-16:-8], "little") - 9)},
    ],
    ids=["no-frame", "no-window", "huge-window", "bits", "digest", "place", "start"],
)  # fmt: skip
def test_a_lie_about_a_span_is_data_loss_when_it_is_read(
    layer: tuple[bytes, bytes, SpanIndex], lie: Callable[[_Document], dict[str, object]]
) -> None:
    tar, blob, index = layer
    document = unseal(index.to_bytes(), _Document)
    hostile = seal(msgspec.structs.replace(document, **lie(document)))
    reader = SpanIndex.from_bytes(hostile, source_of(blob, tar), LIMITS).reader
    with pytest.raises(DataLoss):
        read(reader, blob, 0, reader.size)


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (lambda e: {"count": e.count + 1}, "not 49 names"),
        (lambda e: {"count": -1}, "not -1 names"),
        (lambda e: {"kinds": b"\x07" + e.kinds[1:]}, "out of range"),
        (lambda e: {"kinds": b"\x02" + e.kinds[1:]}, "not 3 targets"),
        (lambda e: {"owners": b"\xff" * len(e.owners)}, "out of range"),
        (lambda e: {"fractions": b"\xff" * len(e.fractions)}, "out of range"),
        (lambda e: {"attributes": b"\xff" * len(e.attributes)}, "owner"),
        (lambda e: {"names": e.names.replace(b"text", b"te\0t")}, "names"),
        (lambda e: {"names": e.names[:-1]}, "not 48 names"),
        (lambda e: {"names": e.names.replace(b"text", b"../x", 1)}, r"'\.\.' in a name"),
        (lambda e: {"links": b""}, "not 2 targets"),
        (lambda e: {"devices": b""}, "devices have 0 bytes"),
        (lambda e: {"sizes": changed(e.sizes, 1, 2**62)}, "bytes of data"),
        (lambda e: {"sizes": changed(e.sizes, 1, 2**30)}, "outside of the stream"),
        (lambda e: {"sizes": changed(e.sizes, 0, 5)}, "a directory with 5 bytes"),
        (lambda e: {"offsets": changed(e.offsets, 4, 2**63 + 5)}, "overlap"),
        (lambda e: {"starts": changed(e.starts, 1, 2**62)}, "outside of the stream"),
        (lambda e: {"starts": changed(e.starts, 1, 2**64 - 600)}, "overlap"),
        (lambda e: {"xattrs": {0: ((b"", b"x"),)}}, "valid name"),
    ],
)  # fmt: skip
def test_a_hostile_entry_of_an_index_is_refused_and_named(
    layer: tuple[bytes, bytes, SpanIndex],
    lie: Callable[[object], dict[str, object]],
    match: str,
) -> None:
    tar, blob, index = layer
    document = unseal(index.to_bytes(), _Document)
    entries = msgspec.structs.replace(document.entries, **lie(document.entries))
    hostile = seal(msgspec.structs.replace(document, entries=entries))
    found = SpanIndex.from_bytes(hostile, source_of(blob, tar), LIMITS)
    with pytest.raises(RefusedInput, match=match):
        list(found.entries())


def test_an_index_is_bounded_before_it_is_unpacked(
    layer: tuple[bytes, bytes, SpanIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    tar, blob, index = layer
    monkeypatch.setattr("snapcore_fuse.formats.envelope.MAX_RAW", 1000)
    with pytest.raises(RefusedInput, match="at most 1000 are allowed"):
        SpanIndex.from_bytes(index.to_bytes(), source_of(blob, tar), LIMITS)


@pytest.mark.parametrize("body", [b"", b"x", b"\x28\xb5\x2f\xfd", tars.zstandarded(b"\x90" * 9)])
def test_what_is_no_index_is_refused(layer: tuple[bytes, bytes, SpanIndex], body: bytes) -> None:
    tar, blob, index = layer
    magic = index.to_bytes()[:8]
    for data in (body, magic + hashlib.sha256(body).digest() + body):
        with pytest.raises(RefusedInput):
            SpanIndex.from_bytes(data, source_of(blob, tar), LIMITS)


def test_libz_that_is_too_old_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from snapcore.errors import Unimplemented
    from snapcore_fuse.formats.spans import libz

    libz._library.cache_clear()
    monkeypatch.setattr(libz, "_OLDEST", (1, 99, 0))
    try:
        with pytest.raises(Unimplemented, match=r"zlib 1\.2\.8 or newer"):
            build(gzip.compress(bytes(1024)), bytes(1024))
    finally:
        libz._library.cache_clear()


def test_a_window_keeps_only_what_its_span_refers_to() -> None:
    """Spans are read with thin windows everywhere above; here they are really thin."""
    rng = random.Random(11)
    before, after = rng.randbytes(40_000), rng.randbytes(30_000)
    used = before[-20_000:-19_000]
    tar = tars.tar(tars.file(b"f", before + used + after))
    packed = zlib.compressobj(9, wbits=31)
    cut = 512 + len(before)
    blob = packed.compress(tar[:cut]) + packed.flush(zlib.Z_BLOCK)
    blob += packed.compress(tar[cut:]) + packed.flush()
    source = source_of(blob, tar)
    index = build_index([blob], source, LIMITS, gzip_span=cut)
    windows = [zstandard.ZstdDecompressor().decompress(w) for w in index._spans.windows if w]
    begin = 32768 - 20_000
    assert windows[0][begin : begin + 1000] == used
    # Noise is referred to here and there as well, a few bytes at a time.
    assert 0 < sum(map(bool, windows[0])) < 1500
    assert b"".join(pieces_of(index, blob)) == tar
    whole = build_index([blob], source, LIMITS, gzip_span=cut, thin_windows=False)
    assert len(whole.to_bytes()) > len(index.to_bytes()) + 20_000
    assert b"".join(pieces_of(whole, blob)) == tar
