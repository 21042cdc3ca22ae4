"""Packed tables: they say what was described, as layers too, in few bytes, and know damage."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.described import DescribedStack, marks, observe_view
from support.layers import (
    SQUASH,
    Layer,
    entry,
    file,
    folder,
    hardlink,
    opaque,
    opened,
    symlink,
    whiteout,
)
from support.lazy_tables import indexed, lazy
from support.stacks import built_stacks, stacks
from support.tree_model import Refused, describe, empty_tree, model_apply

from snapcore.archive import Entry, EntryType
from snapcore.archive.virtual import DiskLayer, NotLazy
from snapcore.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    RefusedInput,
    SnapcoreError,
)
from snapcore.oci import Digest, WhiteoutStyle
from snapcore_fuse.formats import IndexedEntry
from snapcore_fuse.tables import (
    DataPlace,
    Table,
    TableLayer,
    build,
    load,
    save,
    view,
)

OVERLAY = WhiteoutStyle.OVERLAY
LAYER: Layer = [
    entry("", EntryType.DIRECTORY, mode=0o750, mtime=5),
    folder("d", mode=0o1777, mtime=-3),
    entry("d/full", data=b"bytes", ids=(1, 2**32 - 2), mtime=2**33, xattrs={b"user.k": b"v" * 70}),
    file("d/empty"),
    hardlink("d/again", "d/full"),
    symlink("s", "d/full"),
    entry("null", EntryType.CHARACTER, device=(1, 3)),
    entry("huge", EntryType.BLOCK, device=(4095, 2**20 - 1)),
    entry("pipe", EntryType.FIFO, mode=0o600),
    entry("same", EntryType.DIRECTORY, xattrs={b"user.k": b"v" * 70}),
]


def at(table: Table, path: str) -> int:
    index = 0
    for name in os.fsencode(path).split(b"/"):
        found = table.lookup(index, name)
        assert found is not None, path
        index = found
    return index


def test_a_table_says_what_stat_would() -> None:
    table = lazy(LAYER).table
    status = table.attributes(at(table, "d/full"))
    assert (status.mode, status.uid, status.gid) == (stat.S_IFREG | 0o644, 1, 2**32 - 2)
    assert (status.size, status.links, status.mtime) == (5, 2, 2**33)
    assert table.attributes(0)[:5] == (stat.S_IFDIR | 0o750, 0, 0, 1, 5)
    assert table.attributes(at(table, "d")).mtime == -3
    assert table.attributes(at(table, "null")).device == os.makedev(1, 3)
    assert table.attributes(at(table, "huge")).device == os.makedev(4095, 2**20 - 1)
    assert table.attributes(at(table, "pipe")).device == 0
    assert table.target(at(table, "s")) == b"d/full"
    assert table.attributes(at(table, "s")).size == 6
    assert table.target(at(table, "d")) == b""
    assert table.size == 5


def test_names_of_one_inode_have_one_number() -> None:
    table = lazy(LAYER).table
    assert at(table, "d/full") == at(table, "d/again")
    assert table.count == len(LAYER) - 1


def test_a_name_that_is_not_there_is_not_found() -> None:
    table = lazy(LAYER).table
    for name in (b"", b"c", b"d0", b"zzz", b"d/full"):
        assert table.lookup(0, name) is None
    assert table.lookup(at(table, "null"), b"x") is None


def test_children_are_sorted_and_can_be_taken_up_anywhere() -> None:
    table = lazy(LAYER).table
    names = [name for name, _ in table.children(0)]
    assert names == sorted([b"d", b"s", b"null", b"huge", b"pipe", b"same"])
    for after in range(len(names) + 2):
        assert [name for name, _ in table.children(0, after)] == names[after:]
    assert list(table.children(at(table, "null"))) == []


def test_places_name_the_layer_that_has_the_bytes() -> None:
    below = lazy([file("x", b"--"), file("lower", b"abc")])
    table = lazy([file("y", b"yy"), hardlink("z", "lower"), file("w", b"ww")], [below], name="up")
    upper = table.table
    assert upper.sources == (below.digest, Digest.of(b"up")) or upper.sources == (
        Digest.of(b"up"),
        below.digest,
    )
    found = {name: upper.place(index) for name, index in upper.children(0)}
    own, other = upper.sources.index(Digest.of(b"up")), upper.sources.index(below.digest)
    assert found == {
        b"lower": DataPlace(other, 2, 3),
        b"z": DataPlace(other, 2, 3),
        b"y": DataPlace(own, 0, 2),
        b"w": DataPlace(own, 2, 2),
    }
    assert upper.place(0) is None
    assert lazy([file("e")]).table.place(1) is None


def test_equal_xattrs_are_kept_once() -> None:
    one, two = lazy(LAYER[:3]).table, lazy([*LAYER[:3], LAYER[-1]]).table
    assert len(two.data) - len(one.data) < 70
    assert two.xattrs(at(two, "same")) == {b"user.k": b"v" * 70}
    assert two.xattrs(at(two, "d/full")) == {b"user.k": b"v" * 70}
    assert two.xattrs(0) == {}


@pytest.mark.parametrize(
    ("style", "mark"),
    [
        (WhiteoutStyle.OVERLAY, b"trusted.overlay.opaque"),
        (WhiteoutStyle.OVERLAY_USER, b"user.overlay.opaque"),
    ],
)
def test_marks_are_those_of_the_style(style: WhiteoutStyle, mark: bytes, tmp_path: Path) -> None:
    below = lazy([folder("d"), file("d/x", b"x"), file("f", b"f")])
    built = lazy([opaque("d"), whiteout("f")], [below], style=style).table
    save(built, str(tmp_path / "table"))
    for table in (built, load(str(tmp_path / "table"))):
        assert table.xattrs(at(table, "d")) == {mark: b"y"}
        assert table.own_xattrs(at(table, "d")) == {}
        status = table.attributes(at(table, "f"))
        assert (status.mode, status.device) == (stat.S_IFCHR, 0)


def test_a_style_without_marks_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="apply"):
        lazy([], style=WhiteoutStyle.APPLY)


def test_the_policy_counts() -> None:
    entries, _ = indexed([entry("null", EntryType.CHARACTER, device=(1, 3)), file("f")])
    table = build(entries, Digest.of(b""), view([]), OVERLAY, SQUASH)
    assert [name for name, _ in table.children(0)] == [b"f"]


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(stack=stacks() | built_stacks())
def test_packed_layers_are_layers(stack: list[Layer]) -> None:
    described, tables, tree = DescribedStack(), list[Table](), empty_tree()
    for layer in stack:
        entries, _ = indexed(layer)
        digest = Digest.of(b"%d" % len(tables))
        try:
            tree = model_apply(tree, layer)
        except Refused:
            with pytest.raises(RefusedInput):
                build(entries, digest, view(tables), OVERLAY)
            return
        table = build(iter(entries), digest, view(tables), OVERLAY)
        tables.insert(0, table)
        root = described.apply(layer).root
        assert marks(TableLayer(table).root) == marks(root)
    seen = observe_view(view(tables), sized=False)  # type: ignore[arg-type] # places differ
    wanted = describe(tree)
    assert {path: (*shown[:4], *shown[5:]) for path, shown in seen.items()} == {
        path: (*shown[:4], *shown[5:]) for path, shown in wanted.items()
    }


def test_the_view_takes_unpacked_layers_too(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"bytes")
    with opened(str(tmp_path)) as directory:
        disk = DiskLayer(directory, OVERLAY)
        assert at(lazy([hardlink("d", "e"), whiteout("there")][1:], [disk]).table, "there")
        with pytest.raises(NotLazy, match="there"):
            lazy([hardlink("new", "there")], [disk])


# --- files ----------------------------------------------------------------------------------------


def saved(path: Path, layer: Layer = LAYER) -> Path:
    save(lazy(layer).table, str(path / "table"))
    return path / "table"


def test_a_saved_table_is_the_same(tmp_path: Path, census: None) -> None:
    built = lazy(LAYER).table
    again = load(str(saved(tmp_path)))
    assert bytes(again.data) == bytes(built.data)
    assert again.sources == built.sources
    assert observe_view(view([again]), sized=False) == observe_view(view([built]), sized=False)  # type: ignore[arg-type] # places differ
    assert os.listdir(tmp_path) == ["table"]


def test_saving_again_leaves_a_mapped_table_alone(tmp_path: Path) -> None:
    first = load(str(saved(tmp_path)))
    before = bytes(first.data)
    saved(tmp_path, [file("other")])
    assert bytes(first.data) == before


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        if 44 <= position < 48:  # the padding
            continue
        broken = bytearray(whole)
        broken[position] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(DataLoss, match="table"):
            load(str(path))


@pytest.mark.parametrize("size", [0, 7, 44, 48, 100, -1])
def test_a_cut_table_is_damaged(size: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataLoss, match="pull the image again"):
        load(str(path))


def test_a_table_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        load(str(tmp_path / "nowhere"))


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    with pytest.raises(SnapcoreError, match="table"):
        save(lazy(LAYER).table, str(tmp_path / "table"))
    assert os.listdir(tmp_path) == ["table"]


HEAD, RECORD = 40, 48


@pytest.mark.parametrize(
    ("position", "value"),
    [
        pytest.param(0, b"\0\0\0\0", id="no-inodes"),
        pytest.param(4, b"\xff\0\0\0", id="too-many-names"),
        pytest.param(36, b"\x09", id="no-such-style"),
        pytest.param(HEAD, b"\0\0", id="root-of-no-type"),
        pytest.param(HEAD + 40, b"\xff\xff\0\0", id="root-with-too-many-names"),
        pytest.param(HEAD + 44, b"\0\1\0\0", id="xattrs-out-of-range"),
        pytest.param(HEAD + RECORD + 40, b"\2\0\0\0", id="file-in-no-source"),
        pytest.param(HEAD + 2 * RECORD + 32, b"\2\0", id="target-out-of-range"),
        pytest.param(HEAD + 3 * RECORD, b"\1", id="names-do-not-begin"),
        pytest.param(HEAD + 3 * RECORD + 4, b"\3", id="names-out-of-order"),
        pytest.param(HEAD + 3 * RECORD + 12, b"\3", id="name-of-no-inode"),
        pytest.param(-8, b"!", id="source-that-is-none"),
    ],
)
def test_a_table_that_contradicts_itself_is_data_loss(position: int, value: bytes) -> None:
    data = bytearray(lazy([file("f", b"x"), symlink("s", "f")]).table.data)
    Table(memoryview(bytes(data)))
    data[position : position + len(value) if position >= 0 else position + 1] = value
    with pytest.raises(DataLoss, match="packed inode table"):
        Table(memoryview(bytes(data)))


def many(count: int) -> list[IndexedEntry]:
    parents = [
        (b"usr", b"lib", b"python3", b"site-packages", b"package-%d" % n)
        for n in range(count // 10)
    ]
    made = [
        Entry(path, EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, b"", (), 0, 0, (), 0)
        for path in parents
    ]
    for number in range(count - len(parents)):
        path = (*parents[number % len(parents)], b"module_with_a_name_%d.py" % number)
        made.append(Entry(path, EntryType.FILE, 0o644, 0, 0, number, 9, b"", (), 0, 0, (), 0))
    return [IndexedEntry(item, number) for number, item in enumerate(made)]


def test_an_inode_takes_few_bytes_and_a_table_little_time(tmp_path: Path) -> None:
    table = build(many(20_000), Digest.of(b""), view([]), OVERLAY)
    assert len(table.data) / table.count < 120
    save(table, str(tmp_path / "table"))
    began = time.process_time()
    load(str(tmp_path / "table"))
    # A fifth of 100,000 inodes, which may take 100 ms; five times that on a busy machine.
    assert time.process_time() - began < 0.1
