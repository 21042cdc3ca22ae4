"""The tar reader: what it reads, what it refuses, and that it agrees with other readers."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tars
from support.hostile_tars import HOSTILE, Hostile

from snapcore.archive import BlockReader, Entry, EntryType, Limits, TarReader
from snapcore.errors import RefusedInput

DEFAULTS = Limits()


def reader(data: bytes, limits: Limits = DEFAULTS, block: int = 4096) -> TarReader:
    """Return a reader of an archive that comes in blocks of this size."""
    blocks = iter([data[at : at + block] for at in range(0, len(data), block)])
    return TarReader(BlockReader(lambda: next(blocks, b"")), limits)


def entries(data: bytes, limits: Limits = DEFAULTS, block: int = 4096) -> list[Entry]:
    return list(reader(data, limits, block))


def only(*parts: bytes) -> Entry:
    [entry] = entries(tars.tar(*parts))
    return entry


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_with_name_and_offset(name: str) -> None:
    hostile: Hostile = HOSTILE[name]
    with pytest.raises(RefusedInput) as caught:
        entries(hostile.data)
    message = str(caught.value)
    assert hostile.says in message
    assert message.startswith("tar entry b")
    assert " at byte " in message
    assert len(message) < 1200


@pytest.mark.parametrize("name", HOSTILE)
def test_refusal_does_not_depend_on_block_borders(name: str) -> None:
    said = []
    for block in (100, 512, 1 << 20):
        with pytest.raises(RefusedInput) as caught:
            entries(HOSTILE[name].data, block=block)
        said.append(str(caught.value))
    assert len(set(said)) == 1


def test_refusal_names_the_effective_name_and_cuts_it() -> None:
    with pytest.raises(RefusedInput) as caught:
        entries(tars.tar(tars.file(b"first"), tars.file(b"../" + b"n" * 500)))
    assert f"tar entry {b'../' + b'n' * 197!r} at byte 2048" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", (b"a",)),
        (b"/a/b", (b"a", b"b")),
        (b"./a//b/./c", (b"a", b"b", b"c")),
        (b"a/", (b"a",)),
        (b"./", ()),
        (b"", ()),
        (b"/", ()),
        (b"...", (b"...",)),
        (b"..a/b..", (b"..a", b"b..")),
        (b"a\nb\xff", (b"a\nb\xff",)),
        (b"c" * 255, (b"c" * 255,)),
    ],
)
def test_names_become_components(name: bytes, path: tuple[bytes, ...]) -> None:
    lead = tars.pax([(b"path", name)]) if name else b""
    assert only(lead, tars.header(name[:100], type=b"5")).path == path


def test_siblings_after_odd_parents_keep_their_parents() -> None:
    names = (
        b"./a//b",
        b"./a//c",
        b"a/d",
        b"/e",
        b"/f",
        b"g",
        b"./h",
        b"./.",
        b".",
        b"./i",
        b"j/.",
        b"j/k",
    )
    data = tars.tar(*[tars.header(name, type=b"5") for name in names])
    assert [b"/".join(entry.path) for entry in entries(data)] == [
        b"a/b", b"a/c", b"a/d", b"e", b"f", b"g", b"h", b"", b"", b"i", b"j", b"j/k",
    ]  # fmt: skip


def test_longest_path_and_depth_pass() -> None:
    path = b"/".join([b"c" * 255] * 15 + [b"d" * 255])
    assert len(path) == 4095
    assert len(only(tars.file(path)).path) == 16
    assert len(only(tars.file(b"d/" * 2047 + b"f")).path) == 2048


def test_every_type() -> None:
    found = entries(
        tars.tar(
            tars.file(b"f", b"12345", mode=0o4755, uid=1, gid=2),
            tars.hardlink(b"h", b"./f"),
            tars.symlink(b"s", b"../../x/"),
            tars.device(b"c", 1, 3),
            tars.device(b"b", 4095, 2**20 - 1, block=True),
            tars.directory(b"d", mode=0o1777),
            tars.fifo(b"p"),
            tars.header(b"contiguous", type=b"7"),
            tars.header(b"old", type=b"\0", magic=tars.V7),
            tars.header(b"olddir/", type=b"\0", magic=tars.V7),
        )
    )
    assert [entry.type for entry in found] == [
        EntryType.FILE,
        EntryType.HARDLINK,
        EntryType.SYMLINK,
        EntryType.CHARACTER,
        EntryType.BLOCK,
        EntryType.DIRECTORY,
        EntryType.FIFO,
        EntryType.FILE,
        EntryType.FILE,
        EntryType.DIRECTORY,
    ]
    file, hardlink, symlink, character, block = found[:5]
    assert (file.mode, file.uid, file.gid, file.size) == (0o4755, 1, 2, 5)
    assert (hardlink.link, hardlink.link_path) == (b"./f", (b"f",))
    assert (symlink.link, symlink.link_path) == (b"../../x/", ())
    assert (character.major, character.minor) == (1, 3)
    assert (block.major, block.minor) == (4095, 2**20 - 1)
    assert [entry.offset for entry in found[:3]] == [0, 1024, 1536]


def test_block_device_0_0_is_only_a_device() -> None:
    assert only(tars.device(b"b", 0, 0, block=True)).type is EntryType.BLOCK


def test_file_type_bits_of_the_mode_are_dropped() -> None:
    assert only(tars.header(mode=0o100644)).mode == 0o644


def test_largest_ids_pass_in_base_256_and_pax() -> None:
    largest = 2**32 - 2
    entry = only(tars.pax([(b"gid", b"%d" % largest)]), tars.header(uid=largest))
    assert (entry.uid, entry.gid) == (largest, largest)


@pytest.mark.parametrize("field", [b"    644\0", b"0000644 ", b"644\0\0\0\0\0", b"  644 \0 "])
def test_octal_paddings(field: bytes) -> None:
    assert only(tars.header(mode=field)).mode == 0o644


def test_empty_numbers_are_zero() -> None:
    entry = only(tars.header(mode=bytes(8), uid=b" " * 8, mtime=bytes(12)))
    assert (entry.mode, entry.uid, entry.mtime) == (0, 0, 0)


@pytest.mark.parametrize("seconds", [-1, -(2**40), 0, 8**11 - 1, 8**11, 2**62])
def test_times_of_the_header(seconds: int) -> None:
    assert only(tars.header(mtime=seconds)).mtime == seconds * 10**9


def test_signed_checksum_passes() -> None:
    assert only(tars.with_signed_checksum(tars.header(b"\xff" * 50))).path == (b"\xff" * 50,)


def test_gnu_times_do_not_become_a_prefix() -> None:
    times = tars.octal(1, 12) + tars.octal(2, 12)
    assert only(tars.header(b"f", magic=tars.GNU, prefix=times)).path == (b"f",)


def test_star_prefix_ends_before_its_times() -> None:
    block = tars.header(b"f", prefix=b"p" * 131 + tars.octal(1, 12) + tars.octal(2, 12))
    assert only(tars.with_checksum(block[:508] + b"tar\0")).path == (b"p" * 131, b"f")


def test_long_names_and_long_links() -> None:
    entry = only(
        tars.long_name(b"k" * 200, type=b"K"),
        tars.long_name(b"l" * 200),
        tars.header(b"l" * 100, type=b"2", link=b"k" * 100, magic=tars.GNU),
    )
    assert (entry.path, entry.link, entry.offset) == ((b"l" * 200,), b"k" * 200, 0)


def test_old_directory_rule_goes_by_the_effective_name() -> None:
    entry = only(tars.long_name(b"d/"), tars.header(b"f", type=b"\0", magic=tars.GNU))
    assert entry.type is EntryType.DIRECTORY


def test_pax_size_drives_reading_and_skipping() -> None:
    inner = tars.header(b"inner")
    data = tars.tar(tars.pax([(b"size", b"512")]), tars.header(b"f"), inner, tars.file(b"next"))
    assert [entry.path for entry in entries(data)] == [(b"f",), (b"next",)]


def test_global_comment_passes_and_changes_nothing() -> None:
    comment = tars.pax([(b"comment", b"0123")], type=b"g")
    assert only(comment, tars.file(b"f")).path == (b"f",)


@pytest.mark.parametrize("tail", [b"", bytes(512), bytes(1024), bytes(1025), bytes(300_000)])
def test_ends_that_pass(tail: bytes) -> None:
    assert len(entries(tars.file(b"f", b"data") + tail)) == 1
    assert entries(tail) == []


def test_budgets_refuse() -> None:
    data = tars.tar(tars.file(b"a"), tars.file(b"b", b"12345"), tars.file(b"c/d/e"))
    assert len(entries(data, Limits(entries=3, size=5, depth=3))) == 3
    for limits in (Limits(entries=2), Limits(size=4), Limits(depth=2)):
        with pytest.raises(RefusedInput):
            entries(data, limits)


def test_payload_by_copy_by_views_and_skipped(tmp_path: Path) -> None:
    content = {b"f%d" % size: os.urandom(size) for size in (0, 1, 511, 512, 513, 5000, 20_000)}
    data = tars.tar(*[tars.file(name, body) for name, body in content.items()])
    source = reader(data, block=1000)
    for number, entry in enumerate(source):
        expected = content[entry.path[0]]
        if number % 3 == 0:
            with (tmp_path / "out").open("w+b") as out:
                source.copy_payload(out.fileno())
                out.seek(0)
                assert out.read() == expected
        elif number % 3 == 1:
            assert b"".join(source.payload()) == expected
        else:
            for view in source.payload():
                assert bytes(view) == expected[: len(view)]
                break
    assert source.entries == len(content)


def test_cut_payload_is_refused_by_either_way(tmp_path: Path) -> None:
    data = tars.header(b"f", size=1000) + bytes(400)
    with (tmp_path / "out").open("wb") as out:
        source = reader(data)
        next(source)
        with pytest.raises(RefusedInput, match="cut off"):
            source.copy_payload(out.fileno())
    source = reader(data)
    next(source)
    with pytest.raises(RefusedInput, match="cut off"):
        list(source.payload())


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(5000)
    whole_write = os.write
    source = reader(tars.tar(tars.file(b"f", data)))
    next(source)
    with (tmp_path / "out").open("w+b") as out:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, view: whole_write(fd, view[:700]))
            source.copy_payload(out.fileno())
        out.seek(0)
        assert out.read() == data


def _expected(data: bytes) -> Iterator[tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for member in archive:
            path = tuple(
                part.encode("utf-8", "surrogateescape")
                for part in member.name.split("/")
                if part not in ("", ".")
            )
            link = member.linkname.encode("utf-8", "surrogateescape")
            kind = b"0" if member.type == tarfile.AREGTYPE else member.type
            yield path, kind, member.mode, member.uid, member.gid, member.size, link


_FLAGS = {
    EntryType.FILE: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.CHARACTER: b"3",
    EntryType.BLOCK: b"4",
    EntryType.DIRECTORY: b"5",
    EntryType.FIFO: b"6",
}


def _ours(data: bytes) -> Iterator[tuple[object, ...]]:
    for entry in entries(data):
        yield (
            entry.path,
            _FLAGS[entry.type],
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.link,
        )


def _tree(root: Path) -> None:
    (root / "dir" / ("long" * 40) / ("deep" * 40)).mkdir(parents=True)
    (root / "dir" / ("long" * 40) / ("deep" * 40) / "file").write_bytes(b"x" * 1234)
    (root / "dir" / "empty").touch(mode=0o600)
    (root / "link").symlink_to("../" + "t" * 150)
    (root / "hard").hardlink_to(root / "dir" / "empty")
    (root / "n\u00e4me\n").write_text("odd")
    os.mkfifo(root / "fifo")
    os.utime(root / "dir" / "empty", ns=(0, 1_234_567_890_123_456_789))


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_agrees_with_gnu_tar_and_the_standard_library(form: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    _tree(tree)
    if form in ("ustar", "v7"):  # neither can hold such names, v7 no FIFO
        shutil.rmtree(tree / "dir" / ("long" * 40))
        (tree / "link").unlink()
        (tree / "fifo").unlink()
    made = subprocess.run(
        ["tar", f"--format={form}", "--sort=name", "-C", tree, "-cf", "-", "."],
        check=True,
        capture_output=True,
    )
    assert list(_ours(made.stdout)) == list(_expected(made.stdout))
    times = {b"/".join(entry.path): entry.mtime for entry in entries(made.stdout)}
    fraction = 123_456_789 if form == "pax" else 0
    assert times[b"dir/empty"] == 1_234_567_890_000_000_000 + fraction


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_agrees_with_archives_of_the_standard_library(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number in range(30):
            member = tarfile.TarInfo("d/" * number + "file")
            member.size, member.uid, member.mode, member.mtime = number, number, number, number
            archive.addfile(member, io.BytesIO(b"x" * number))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 90
        archive.addfile(link)
    assert list(_ours(out.getvalue())) == list(_expected(out.getvalue()))


_SEED = tars.tar(
    tars.directory(b"./"),
    tars.directory(b"usr/bin"),
    tars.file(b"usr/bin/a", b"a" * 700, xattrs={b"user.a": b"\0\n"}, mtime=1_500_000_001),
    tars.file(b"n" * 150, b"data"),
    tars.long_name(b"usr/" + b"l" * 120),
    tars.header(b"short", size=10, magic=tars.GNU),
    tars.pad(b"0123456789"),
    tars.hardlink(b"usr/bin/b", b"usr/bin/a"),
    tars.symlink(b"bin", b"usr/bin"),
    tars.device(b"null", 1, 3),
    tars.fifo(b"pipe"),
)


def _is_header(block: bytearray) -> bool:
    return block[257:262] == b"ustar"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_archives_are_read_or_refused(data: st.DataObject) -> None:
    blocks = [_SEED[at : at + 512] for at in range(0, len(_SEED), 512)]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blocks) - 1))
        block = bytearray(blocks[at])
        place = data.draw(st.integers(0, 511))
        raw = data.draw(st.binary(min_size=1, max_size=12))[: 512 - place]
        block[place : place + len(raw)] = raw
        blocks[at] = tars.with_checksum(bytes(block)) if _is_header(block) else bytes(block)
        match data.draw(st.sampled_from(["keep", "drop", "double", "swap"])):
            case "drop":
                del blocks[at]
            case "double":
                blocks.insert(at, blocks[at])
            case "swap":
                blocks[at], blocks[at - 1] = blocks[at - 1], blocks[at]
    archive = b"".join(blocks)
    try:
        found = entries(archive)
    except RefusedInput:
        return
    for entry in found:
        assert not {b"", b".", b".."} & set(entry.path + entry.link_path)
        assert 0 <= entry.uid < 2**32 - 1
        assert 0 <= entry.gid < 2**32 - 1
        assert entry.size == 0 or entry.type is EntryType.FILE
        assert b"\0" not in entry.link + b"".join(entry.path)
    # What is accepted holds nothing that another reader would find and this one did not.
    spans = sum(512 + entry.size + -entry.size % 512 for entry in found)
    assert spans <= len(archive)
