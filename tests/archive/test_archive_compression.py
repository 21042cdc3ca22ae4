"""Decompression: every member and frame is verified, and every budget holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tars

from snapcore.archive import ByteStream, Compression, Limits, open_stream
from snapcore.archive.blob import READ_SIZE, Blob
from snapcore.archive.inflate import Inflater, ZlibInflater, fastest_inflater, gunzip
from snapcore.errors import FailedPrecondition, InvalidArgument, RefusedInput

DATA = bytes(range(256)) * 40 + b"end"
NOISE = random.Random(1).randbytes(300_000)
SKIPPABLE = b"\x5f\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"
INFLATERS = pytest.mark.parametrize("new_inflater", [fastest_inflater, ZlibInflater])


def opened(data: bytes, limits: Limits | None = None) -> tuple[ByteStream, bytes]:
    """Return a stream that was read to its end, and what came out."""
    descriptor = os.memfd_create("blob")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        stream = open_stream(descriptor, limits or Limits())
        return stream, b"".join(stream)
    finally:
        os.close(descriptor)


def unpacked(data: bytes, limits: Limits | None = None) -> bytes:
    return opened(data, limits)[1]


def inflated(data: bytes, new_inflater: Callable[[], Inflater]) -> bytes:
    """Return what one inflater makes of a blob."""
    descriptor = os.memfd_create("blob")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return b"".join(gunzip(Blob(descriptor), b"", Limits(), new_inflater))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("blob", "compression"),
    [
        (DATA, Compression.NONE),
        (tars.gzipped(DATA), Compression.GZIP),
        (tars.zstandarded(DATA), Compression.ZSTD),
        (SKIPPABLE + tars.zstandarded(DATA), Compression.ZSTD),
    ],
)
def test_detects_unpacks_and_digests(blob: bytes, compression: Compression) -> None:
    stream, data = opened(blob)
    assert data == DATA
    assert stream.compression is compression
    assert (stream.size, stream.blob_size) == (len(DATA), len(blob))
    assert stream.blob_digest().hex == hashlib.sha256(blob).hexdigest()


@pytest.mark.parametrize("blob", [b"", b"x", b"\x1f", b"\x28\xb5\x2f"])
def test_shortest_blobs_are_plain(blob: bytes) -> None:
    assert unpacked(blob) == blob


@pytest.mark.parametrize("pack", [tars.gzipped, tars.zstandarded])
@pytest.mark.parametrize("body", [b"", b"a", DATA, NOISE, bytes(3_000_000)])
def test_several_members_and_frames(pack: Callable[[bytes], bytes], body: bytes) -> None:
    assert unpacked(pack(body) * 3 + pack(b"tail")) == body * 3 + b"tail"


@INFLATERS
def test_many_small_members(new_inflater: Callable[[], Inflater]) -> None:
    pieces = [b"%d" % number * (number % 50) for number in range(3000)]
    assert inflated(b"".join(map(tars.gzipped, pieces)), new_inflater) == b"".join(pieces)


class _LateEnd(ZlibInflater):
    """Sees a member's end only when it is fed once more, as a decoder may that reads ahead."""

    def __init__(self) -> None:
        super().__init__()
        self._late = b""
        self._told = False

    @property
    def eof(self) -> bool:
        return self._told

    @property
    def unused_data(self) -> bytes:
        return super().unused_data + self._late

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if super().eof:
            self._late, self._told = data, True
            return b""
        return super().decompress(data, max_length)


def test_a_decoder_may_give_back_bytes_of_an_earlier_read() -> None:
    bodies = [NOISE[: READ_SIZE - size] for size in range(25, 60)]
    packed = [gzip.compress(body, 0, mtime=0) for body in bodies]
    number = next(n for n, blob in enumerate(packed) if len(blob) == READ_SIZE - 5)
    blob = packed[number] + tars.gzipped(b"second")
    descriptor = os.memfd_create("blob")
    got: list[bytes] = []
    try:
        os.write(descriptor, blob)
        os.lseek(descriptor, 0, os.SEEK_SET)
        # Nothing follows the last bytes, so this decoder never gets to say that it saw the end.
        with pytest.raises(RefusedInput, match="member 2 is cut off"):
            got.extend(gunzip(Blob(descriptor), b"", Limits(), _LateEnd))
    finally:
        os.close(descriptor)
    assert b"".join(got) == bodies[number] + b"second"


@INFLATERS
def test_gzip_header_fields(new_inflater: Callable[[], Inflater]) -> None:
    out = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=out, mtime=7) as member:
        member.write(NOISE)
    assert inflated(out.getvalue(), new_inflater) == NOISE


@INFLATERS
@pytest.mark.parametrize("place", range(-8, 0))
def test_gzip_trailer_is_verified(new_inflater: Callable[[], Inflater], place: int) -> None:
    blob = bytearray(tars.gzipped(DATA))
    blob[place] ^= 1
    with pytest.raises(RefusedInput, match="damaged"):
        inflated(bytes(blob), new_inflater)


@INFLATERS
def test_gzip_cut_anywhere_is_refused(new_inflater: Callable[[], Inflater]) -> None:
    blob = tars.gzipped(DATA[:300])
    for size in range(1, len(blob)):
        with pytest.raises(RefusedInput):
            inflated(blob[:size], new_inflater)
        with pytest.raises(RefusedInput):
            inflated(blob + blob[:size], new_inflater)


@INFLATERS
@pytest.mark.parametrize("garbage", [b"\0", bytes(512), b"x", b"PK\3\4", b"\x1f\x8c\x08\0"])
def test_bytes_after_gzip_are_refused(new_inflater: Callable[[], Inflater], garbage: bytes) -> None:
    with pytest.raises(RefusedInput, match="no further member"):
        inflated(tars.gzipped(DATA) + garbage, new_inflater)


def _member(flags: int) -> bytes:
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff"
    head += b"\x05\0extra" if flags & 4 else b""
    head += b"name\0" if flags & 8 else b""
    head += b"comment\0" if flags & 16 else b""
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(DATA) + packer.flush()
    return head + body + struct.pack("<II", zlib.crc32(DATA), len(DATA))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_inflaters_give_one_answer(data: st.DataObject) -> None:
    flags = st.integers(0, 31)
    blob = bytearray(b"".join(map(_member, data.draw(st.lists(flags, min_size=1, max_size=3)))))
    for place in data.draw(st.lists(st.integers(0, 60), max_size=2)):
        blob[place] ^= 1 << data.draw(st.integers(0, 7))
    answers = []
    for new_inflater in (fastest_inflater, ZlibInflater):
        try:
            answers.append(inflated(bytes(blob), new_inflater))
        except RefusedInput:
            answers.append(b"refused")
    assert answers[0] == answers[1]


def test_zstd_cut_anywhere_is_refused() -> None:
    blob = SKIPPABLE + tars.zstandarded(DATA[:300])
    whole = len(SKIPPABLE)
    for size in range(4, len(blob)):
        if size != whole:
            with pytest.raises(RefusedInput):
                unpacked(blob[:size])
            with pytest.raises(RefusedInput):
                unpacked(blob + blob[:size])


def test_zstd_content_checksum_is_verified() -> None:
    blob = bytearray(tars.zstandarded(DATA))
    blob[-1] ^= 1
    with pytest.raises(RefusedInput, match="damaged"):
        unpacked(bytes(blob))


@pytest.mark.parametrize("garbage", [b"\0", bytes(4), b"garbage", b"\x28\xb5\x2f\xfe\0\0\0\0"])
def test_bytes_after_zstd_are_refused(garbage: bytes) -> None:
    with pytest.raises(RefusedInput):
        unpacked(tars.zstandarded(DATA) + garbage)


def test_zstd_window_is_capped() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    blob = packer.compress(NOISE) + packer.flush()
    assert unpacked(blob, Limits(window=1 << 24)) == NOISE
    with pytest.raises(RefusedInput, match="window of 16777216"):
        unpacked(blob, Limits(window=(1 << 24) - 1))


def test_zstd_window_of_a_single_segment_is_capped() -> None:
    blob = tars.zstandarded(NOISE)
    with pytest.raises(RefusedInput, match=f"window of {len(NOISE)}"):
        unpacked(blob, Limits(window=len(NOISE) - 1))


def test_zstd_sizes_of_two_bytes_count_from_256() -> None:
    with pytest.raises(RefusedInput, match="window of 1000 bytes"):
        unpacked(tars.zstandarded(NOISE[:1000]), Limits(window=999))


def test_zstd_dictionaries_are_refused() -> None:
    blob = bytearray(tars.zstandarded(DATA))
    blob[4] |= 1
    with pytest.raises(RefusedInput, match="dictionary"):
        unpacked(bytes(blob))


_FRAMES = tars.zstandarded(DATA) + SKIPPABLE + tars.zstandarded(b"tail")
# All but the magic and the flags of each frame: without its checksum flag nothing is verified.
_PLACES = [
    at for at in range(len(_FRAMES)) if _FRAMES.rfind(b"\x28\xb5\x2f\xfd", 0, at + 4) < at - 4
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), st.integers(1, 255)), min_size=1, max_size=3))
def test_damaged_zstd_is_read_whole_or_refused(damage: list[tuple[int, int]]) -> None:
    blob = bytearray(_FRAMES)
    for place, bits in damage:
        blob[place] ^= bits
    try:
        data = unpacked(bytes(blob))
    except RefusedInput:
        return
    # Damage that passes can only be in what a skippable frame holds.
    assert data == DATA + b"tail"


@pytest.mark.parametrize("pack", [bytes, tars.gzipped, tars.zstandarded])
def test_size_budget(pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(NOISE), Limits(size=len(NOISE))) == NOISE
    with pytest.raises(RefusedInput, match="larger than"):
        unpacked(pack(NOISE), Limits(size=len(NOISE) - 1))


@pytest.mark.parametrize("pack", [tars.gzipped, tars.zstandarded])
def test_ratio_budget_counts_past_what_is_free(pack: Callable[[bytes], bytes]) -> None:
    blob, limits = pack(bytes(4 << 20)), Limits(ratio=2, ratio_free=4 << 20)
    assert len(unpacked(blob, limits)) == 4 << 20
    with pytest.raises(RefusedInput, match="2 to 1"):
        unpacked(blob + pack(b"x"), limits)


@pytest.mark.parametrize("pack", [tars.gzipped, tars.zstandarded])
def test_zeros_without_end_go_past_the_ratio_that_holds_by_default(
    pack: Callable[[bytes], bytes],
) -> None:
    with pytest.raises(RefusedInput, match="200 to 1"):
        unpacked(pack(bytes(5 << 20)), Limits(ratio_free=4 << 20))


@pytest.mark.parametrize("pack", [tars.gzipped, tars.zstandarded])
def test_member_budget(pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(b"a") * 5, Limits(members=5)) == b"aaaaa"
    with pytest.raises(RefusedInput, match="more than 4"):
        unpacked(pack(b"a") * 5, Limits(members=4))


def test_blocks_are_bounded_and_never_empty() -> None:
    bomb = tars.gzipped(bytes(5_000_000)) + tars.gzipped(b"") * 2000 + tars.gzipped(b"end")
    descriptor = os.memfd_create("blob")
    try:
        os.write(descriptor, bomb)
        os.lseek(descriptor, 0, os.SEEK_SET)
        sizes = [len(block) for block in open_stream(descriptor, Limits())]
    finally:
        os.close(descriptor)
    assert min(sizes) > 0
    assert max(sizes) <= 384 * 1024
    assert len(sizes) < 50


def test_a_closed_descriptor_and_an_unknown_algorithm(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="byte 0"):
        open_stream(-1, Limits())
    with pytest.raises(InvalidArgument, match="md5"):
        open_stream(0, Limits(), algorithm="md5")
