"""The tar writer: what it writes is read back as the same, by us and by others, or refused."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.diffs import read_tar
from support.layers import entry

from snapcore.archive import Entry, EntryType, TarWriter
from snapcore.errors import DigestMismatch, RefusedInput

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {b"/"[0], 0} & set(name) and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=8).map(tuple)
TIMES = st.one_of(
    st.just(0),
    st.integers(-(2**33) * 10**9, 2**36 * 10**9),
    st.integers(-(2**31), 2**34).map(lambda seconds: seconds * 10**9),
)
IDS = st.one_of(st.integers(0, 2**32 - 2), st.sampled_from([0, 8**7 - 1, 8**7, 2**32 - 2]))
XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=40).filter(lambda name: not set(b"=\0") & set(name)),
    st.binary(max_size=300),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from(EntryType))
    path = draw(PATHS if kind is not EntryType.DIRECTORY else st.one_of(PATHS, st.just(())))
    data = draw(st.binary(max_size=1500)) if kind is EntryType.FILE else b""
    link: bytes = b""
    link_path: tuple[bytes, ...] = ()
    if kind is EntryType.SYMLINK:
        link = draw(st.binary(min_size=1, max_size=400).filter(lambda name: 0 not in name))
    elif kind is EntryType.HARDLINK:
        link_path = draw(PATHS)
        link = b"/".join(link_path)
    device = kind in (EntryType.CHARACTER, EntryType.BLOCK)
    return (
        Entry(
            path,
            kind,
            draw(st.integers(0, 0o7777)),
            draw(IDS),
            draw(IDS),
            draw(TIMES),
            len(data),
            link,
            link_path,
            draw(st.integers(1, 4095)) if device else 0,
            draw(st.integers(0, 2**20 - 1)) if device else 0,
            draw(XATTRS),
            0,
        ),
        data,
    )


def tar(layer: Sequence[tuple[Entry, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for item, data in layer:
        writer.add(item, [data[:700], data[700:]])
    writer.end()
    assert writer.entries == len(layer)
    return out.getvalue()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(layer=st.lists(entries(), max_size=4))
def test_what_is_written_is_read_back(layer: list[tuple[Entry, bytes]]) -> None:
    data = tar(layer)
    found = read_tar(data)
    assert [(msgspec.structs.replace(item, offset=0), body) for item, body in found] == layer
    assert data == tar(layer)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(layer=st.lists(entries(), max_size=4))
def test_pythons_reader_reads_the_same(layer: list[tuple[Entry, bytes]]) -> None:
    encoding = {"encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(fileobj=io.BytesIO(tar(layer)), **encoding) as archive:  # type: ignore[call-overload]
        members = archive.getmembers()
    assert len(members) == len(layer)
    for member, (item, _) in zip(members, layer, strict=True):
        name = b"/".join(item.path)
        if item.path and not name.strip(b" ").endswith(b"/"):
            assert member.name.encode("utf-8", "surrogateescape") == name
        assert (member.mode, member.uid, member.gid) == (item.mode, item.uid, item.gid)
        assert member.size == item.size
        if abs(item.mtime) < 10**15:  # a float cannot tell more apart
            assert member.mtime == pytest.approx(item.mtime / 10**9)


def test_only_what_a_header_cannot_say_takes_a_record() -> None:
    plain = [entry("d" * 50 + "/" + "f" * 100), entry("x", mtime=10**9), entry("y", ids=(7, 8))]
    assert len(tar(plain)) == (3 + 2) * 512
    rich = [entry("f" * 101), entry("x", mtime=10**9 + 1), entry("y", ids=(8**7, 0))]
    assert len(tar(rich)) == (3 * 3 + 2) * 512


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (entry("a\0b"), "NUL"),
        (entry("..", EntryType.FILE), r"'\.\.'"),
        (entry("x" * 256), "255"),
        (entry("/".join(["y" * 200] * 21)), "4095"),
        (entry("x", ids=(2**32 - 1, 0)), "owner"),
        (entry("x", xattrs={b"user.a=b": b""}), "no valid name"),
        (entry("x", xattrs={b"user.x": bytes(1 << 20)}), "1048576"),
        (entry("x", EntryType.CHARACTER), "whiteout"),
        (entry("x", EntryType.BLOCK, device=(4096, 0)), "device number"),
        (entry("x", EntryType.SYMLINK, link="t" * 4096), "4095"),
        (entry("", EntryType.FILE), "root"),
        (entry("x", mode=0o10644), "read as another"),
    ],
)
def test_what_no_reader_would_take_is_refused(item: tuple[Entry, bytes], says: str) -> None:
    with pytest.raises(RefusedInput, match=says):
        tar([item])


def test_a_component_that_reads_as_two_is_refused() -> None:
    odd = msgspec.structs.replace(entry("x")[0], path=(b"a/b",))
    with pytest.raises(RefusedInput, match="read as another"):
        tar([(odd, b"")])


@pytest.mark.parametrize("data", [b"abc", b"abcde"])
def test_payload_of_another_size_is_noticed(data: bytes) -> None:
    writer = TarWriter(io.BytesIO().write)
    with pytest.raises(DigestMismatch, match=f"{len(data)} bytes instead of 4"):
        writer.add(msgspec.structs.replace(entry("x")[0], size=4), [data])


def test_gnu_tar_lists_what_was_written(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(
        tar(
            [
                entry("", EntryType.DIRECTORY, mode=0o755),
                entry("d" * 120 + "/f\xff" * 30, data=b"body", mtime=1_700_000_000_500_000_000),
                entry("s", EntryType.SYMLINK, link="t" * 150),
            ]
        )
    )
    command = ["tar", "--numeric-owner", "--utc", "--quoting-style=literal", "-tvf", str(archive)]
    done = subprocess.run(command, capture_output=True, check=True)
    root, file, link = done.stdout.splitlines()
    assert root.endswith(b" ./")
    assert b"2023-11-14 22:13" in file
    assert file.endswith(b"d" * 120 + b"/f\xc3\xbf" * 30)
    assert link.endswith(b"s -> " + b"t" * 150)
    assert done.stderr == b""
