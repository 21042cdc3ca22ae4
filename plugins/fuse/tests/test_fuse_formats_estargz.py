"""eStargz: what the Go library writes is read byte for byte, and what is damaged is noticed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support import tars
from support.images import debian_tar
from support.stargz import (
    GZIP,
    LIMITS,
    Estargz,
    estargz_writer,
    go_estargz,
    open_blob,
    sealed,
    source_of,
)

from snapcore.archive import BlockReader, Entry, TarReader, fastest_inflater
from snapcore.errors import DataLoss, RefusedInput
from snapcore.oci import Digest
from snapcore_fuse.formats import BlobRange, LayerIndex, LayerReader, LayerSource
from snapcore_fuse.formats.estargz import EstargzIndex

Value: TypeAlias = str | int | dict[str, str] | list[int] | None


def read(reader: LayerReader, blob: bytes, start: int, size: int) -> bytes:
    found = b""
    for piece in reader.pieces(start, size):
        data = reader.decode(piece, blob[piece.blob.offset : piece.blob.end])
        assert len(data) == piece.size
        found += data[max(0, start - piece.start) : start + size - piece.start]
    return found


def contents(index: LayerIndex, blob: bytes) -> list[tuple[Entry, bytes]]:
    """Return the entries, their positions left out, with what can be read of their bytes."""
    return [
        (unplaced(entry), read(index.reader, blob, start, entry.size))
        for entry, start in ((found.entry, found.start) for found in index.entries())
    ]


def listed(index: LayerIndex, blob: bytes) -> list[tuple[Entry, bytes]]:
    """Return what the table lists: everything but the table itself, which comes last."""
    *found, (table, _) = contents(index, blob)
    assert table.path == (b"stargz.index.json",)
    return found


def unplaced(entry: Entry) -> Entry:
    values = {name: getattr(entry, name) for name in Entry.__struct_fields__}
    return Entry(**{**values, "offset": 0})


def tar_contents(blocks: Path | bytes) -> list[tuple[Entry, bytes]]:
    data = blocks.read_bytes() if isinstance(blocks, Path) else blocks
    rest = [data]
    reader = TarReader(BlockReader(lambda: rest.pop() if rest else b""), LIMITS)
    return [(unplaced(entry), b"".join(map(bytes, reader.payload()))) for entry in reader]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estargz_writer(tmp_path_factory)


def every_kind(rng: random.Random) -> bytes:
    return tars.tar(
        tars.directory(b"./", mode=0o755),
        tars.directory(b"./etc", mode=0o1777, uid=7, gid=8, mtime=1_600_000_000 * 10**9),
        tars.file(b"./etc/empty"),
        tars.file(b"./etc/one", b"1", mode=0o4755, xattrs={b"user.a": b"\0\xff", b"user.b": b""}),
        tars.file(b"big", rng.randbytes(300_000), mtime=-(10**9)),
        tars.file(b"exactly", rng.randbytes(100_000)),
        tars.hardlink(b"etc/hard", b"./etc/one"),
        tars.symlink(b"etc/soft", b"../../elsewhere"),
        tars.device(b"dev/null", 1, 3, mode=0o666),
        tars.device(b"dev/sda", 8, 300, block=True),
        tars.fifo(b"run/pipe"),
        tars.whiteout(b"etc/gone"),
        tars.opaque(b"etc"),
        tars.file('etc/ümlaut \\ " <&>\u2028'.encode(), b"named"),
        tars.file(b"deep/" + b"d" * 200 + b"/file", bytes(50_000)),
    )


def test_every_entry_and_byte_that_the_go_library_wrote_is_read(
    writer: Path, tmp_path: Path
) -> None:
    tar = every_kind(random.Random(1))
    (tmp_path / "layer.tar").write_bytes(tar)
    layer = go_estargz(writer, tmp_path / "layer.tar", chunk=100_000)
    index = open_blob(layer)
    # What an unpacker finds, which is more than was given: a landmark, and the table itself.
    wanted = tar_contents(gzip.decompress(layer.blob))
    assert wanted[1:-1] == tar_contents(tar)
    assert contents(index, layer.blob) == wanted
    assert index.prefetch == 0
    assert index.reader.size == sum(entry.size for entry, _ in wanted)


def test_the_prefetch_landmark_says_what_is_wanted_at_start(writer: Path, tmp_path: Path) -> None:
    (tmp_path / "layer.tar").write_bytes(
        tars.tar(tars.file(b"late", b"l" * 5000), tars.file(b"early", b"e" * 5000))
    )
    layer = go_estargz(writer, tmp_path / "layer.tar", prioritized=["early"])
    index = open_blob(layer)
    assert [found.entry.path for found in index.entries()] == [
        (b"early",),
        (b".prefetch.landmark",),
        (b"late",),
        (b"stargz.index.json",),
    ]
    ends = {
        found.entry.path[0]: next(index.reader.pieces(found.start, 1)).blob.end
        for found in index.entries()
    }
    assert ends[b"early"] <= index.prefetch < ends[b"late"]


@pytest.mark.long
def test_a_real_root_filesystem_is_read_byte_for_byte(
    writer: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    (tmp_path / "root.tar").symlink_to(debian_tar(tmp_path_factory))
    layer = go_estargz(writer, tmp_path / "root.tar", chunk=1 << 20)
    index = open_blob(layer)
    with gzip.open(io.BytesIO(layer.blob)) as stream:
        reader = TarReader(BlockReader(lambda: stream.read(1 << 18)), LIMITS)
        for wanted, found in zip(reader, index.entries(), strict=True):
            assert (wanted.path, wanted.type, wanted.mode) == (
                found.entry.path,
                found.entry.type,
                found.entry.mode,
            )
            data = read(index.reader, layer.blob, found.start, found.entry.size)
            assert data == b"".join(map(bytes, reader.payload()))


class Files:
    """A blob in the making: members, and the entries of a table that describe them."""

    def __init__(self) -> None:
        self.members = b""
        self.entries: list[dict[str, Any]] = []

    def member(self, plain: bytes) -> int:
        """Append a member; return its offset."""
        self.members += gzip.compress(plain, mtime=0)
        return len(self.members) - len(gzip.compress(plain, mtime=0))

    def file(self, name: str, data: bytes, **changed: Value) -> dict[str, Any]:
        """Append a file with a member of its own."""
        if not self.members:
            self.member(b"a tar header")
        return self.entry(name, data, self.member(data + b"a tar header"), **changed)

    def entry(self, name: str, data: bytes, offset: int, **changed: Value) -> dict[str, Any]:
        """Append an entry for a file."""
        item = {
            "name": name,
            "type": "reg",
            "size": len(data),
            "offset": offset,
            "chunkDigest": str(Digest.of(data)),
            **changed,
        }
        self.entries.append({key: value for key, value in item.items() if value is not None})
        return self.entries[-1]

    def sealed(self, *, legacy: bool = False) -> Estargz:
        return sealed(self.members, self.entries, legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True], ids=["51", "47"])
@pytest.mark.parametrize("files", [0, 1, 3])
def test_both_footers_lead_to_the_table_in_one_read(legacy: bool, files: int) -> None:
    made = Files()
    made.member(b"header")
    for number in range(files):
        made.file(f"f{number}", b"%d" % number * 100)
    layer = made.sealed(legacy=legacy)
    reads: list[BlobRange] = []
    index = open_blob(layer, reads=reads)
    assert [data for _, data in listed(index, layer.blob)] == [
        b"%d" % number * 100 for number in range(files)
    ]
    assert reads == [BlobRange(0, len(layer.blob))]


def test_a_long_table_takes_a_second_read_of_just_what_is_missing() -> None:
    made = Files()
    made.member(random.Random(2).randbytes(300_000))
    digests = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(3000))
    made.entries = [{"name": f"{digest}{digest[::-1]}", "type": "fifo"} for digest in digests]
    layer = made.sealed()
    reads: list[BlobRange] = []
    index = open_blob(layer, reads=reads)
    assert len(listed(index, layer.blob)) == 3000
    begin = len(layer.blob) - 128 * 1024
    assert reads == [
        BlobRange(begin, 128 * 1024),
        BlobRange(len(made.members), begin - len(made.members)),
    ]


def test_files_that_share_a_member_and_files_of_several_members() -> None:
    made = Files()
    one, two, three = b"one" * 100, b"two" * 200, b"three" * 300
    shared = made.member(b"H" * 512 + one + b"H" * 700 + two + b"H" * 512 + three[:500])
    made.entry("one", one, shared, innerOffset=512)
    made.entry("two", two, shared, innerOffset=512 + 300 + 700)
    first = 512 + 300 + 700 + 600 + 512
    made.entry(
        "three", three, shared, innerOffset=first, chunkSize=500,
        chunkDigest=str(Digest.of(three[:500])),
    )  # fmt: skip
    rest = made.member(three[500:] + b"H" * 512)
    made.entries.append(
        {"name": "three", "type": "chunk", "offset": rest, "chunkOffset": 500,
         "chunkDigest": str(Digest.of(three[500:]))}
    )  # fmt: skip
    layer = made.sealed()
    index = open_blob(layer)
    assert [data for _, data in listed(index, layer.blob)] == [one, two, three]
    assert [index.reader.piece(number).size for number in range(2)] == [1400, 1000]


def test_a_files_digest_serves_when_it_is_its_only_chunk() -> None:
    made = Files()
    made.file("old", b"content", chunkDigest=None, digest=str(Digest.of(b"content")))
    layer = made.sealed(legacy=True)
    assert [data for _, data in listed(open_blob(layer), layer.blob)] == [b"content"]


def test_a_name_that_comes_twice_is_given_twice() -> None:
    made = Files()
    made.file("./twice", b"first")
    made.file("/twice", b"second")
    layer = made.sealed()
    found = listed(open_blob(layer), layer.blob)
    assert [(entry.path, data) for entry, data in found] == [
        ((b"twice",), b"first"),
        ((b"twice",), b"second"),
    ]


def test_what_lies_behind_a_members_last_chunk_is_not_fetched() -> None:
    made = Files()
    made.member(b"header")
    made.entry("small", b"tiny", made.member(b"tiny" + random.Random(3).randbytes(100_000)))
    layer = made.sealed()
    piece = open_blob(layer).reader.piece(0)
    assert piece.blob.size < 8192
    assert open_blob(layer).reader.decode(piece, layer.blob[piece.blob.offset : piece.blob.end])


def test_a_kept_index_says_the_same_without_its_blob() -> None:
    rng = random.Random(4)
    made = Files()
    for number in range(50):
        made.file(f"d{number % 7}/f{number}", rng.randbytes(number), mode=0o600 + number % 3,
                  uid=number, modtime=f"20{number:02}-01-01T00:00:00Z",
                  xattrs={"user.n": base64.b64encode(b"%d" % number).decode()})  # fmt: skip
    made.entries += [
        {"name": "dev", "type": "char", "devMajor": 1, "devMinor": 3},
        {"name": "soft", "type": "symlink", "linkName": "d1/f1"},
        {"name": "hard", "type": "hardlink", "linkName": "d1/f1"},
    ]
    layer = made.sealed()
    index = open_blob(layer)
    again = EstargzIndex.from_bytes(index.to_bytes(), source_of(layer), LIMITS)
    assert list(again.entries()) == list(index.entries())
    assert contents(again, layer.blob) == contents(index, layer.blob)
    assert again.to_bytes() == index.to_bytes()


def small() -> tuple[Estargz, EstargzIndex]:
    made = Files()
    made.file("first", b"1" * 1000)
    made.file("second", b"2" * 1000)
    layer = made.sealed()
    return layer, open_blob(layer)


def test_each_damaged_byte_of_a_kept_index_is_noticed() -> None:
    layer, index = small()
    kept = index.to_bytes()
    for at in range(len(kept)):
        damaged = bytearray(kept)
        damaged[at] ^= 0x41
        with pytest.raises((DataLoss, RefusedInput)):
            EstargzIndex.from_bytes(bytes(damaged), source_of(layer), LIMITS)
    for length in range(len(kept)):
        with pytest.raises((DataLoss, RefusedInput)):
            EstargzIndex.from_bytes(kept[:length], source_of(layer), LIMITS)


def test_a_kept_index_of_another_layer_is_refused() -> None:
    layer, index = small()
    other = LayerSource(Digest.of(b"other"), len(layer.blob), GZIP, layer.diff_id)
    with pytest.raises(RefusedInput, match="an index of estargz layer"):
        EstargzIndex.from_bytes(index.to_bytes(), other, LIMITS)


def flipped(data: bytes) -> bytes:
    return data[:-12] + bytes([data[-12] ^ 1]) + data[-11:]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:14],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: gzip.compress(b"3" * 2000),
        lambda data: gzip.compress(b"2" * 999),
        lambda data: data[:12] + b"\xff\xff" + data[14:],
    ],
    ids=["cut", "empty", "zeros", "other", "short", "damaged"],
)
def test_bytes_that_are_not_the_promised_ones_are_data_loss(
    change: Callable[[bytes], bytes],
) -> None:
    layer, index = small()
    piece = index.reader.piece(1)
    with pytest.raises(DataLoss, match=f"member at byte {piece.blob.offset}"):
        index.reader.decode(piece, change(layer.blob[piece.blob.offset : piece.blob.end]))


def test_a_bomb_is_inflated_no_further_than_what_was_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inflated = []

    class Counting:
        def __init__(self) -> None:
            self._inner = fastest_inflater()

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            out = self._inner.decompress(data, max_length)
            inflated.append(len(out))
            return out

    made = Files()
    made.member(b"header")
    made.entry("bomb", b"0" * 1000, made.member(b"0" * 5_000_000))
    layer = made.sealed()
    monkeypatch.setattr("snapcore_fuse.formats.estargz.members.fastest_inflater", Counting)
    index = open_blob(layer)
    first = next(iter(index.entries()))
    assert read(index.reader, layer.blob, first.start, 1000) == b"0" * 1000
    assert sum(inflated) == 1000
