"""Layers made by comparing trees: what is in them, what is left out, and what is refused."""

from __future__ import annotations

import gzip
import os
import socket
import stat
from pathlib import Path

import pytest
from support.diffs import PLAIN, between, of_upper, unzstd
from support.layers import Native, apply_over, opened

from snapcore.archive import Compression, DiffOptions, EntryType, diff_trees, remove, tree_digest
from snapcore.archive.pack import LayerPacker, slow_gzip
from snapcore.errors import FailedPrecondition, NotFound, RefusedInput, Unimplemented
from snapcore.oci import Digest, WhiteoutStyle
from snapcore.oci.descriptor import OCI_LAYER

EPOCH = 1_600_000_000 * 10**9


def build(root: Path) -> Path:
    """Make a tree whose times are all the same."""
    (root / "etc/conf").mkdir(parents=True)
    (root / "etc/motd").write_bytes(b"hello\n")
    (root / "etc/conf/a").write_bytes(b"a" * 3000)
    (root / "usr").mkdir()
    (root / "usr/tool").write_bytes(b"tool")
    os.link(root / "usr/tool", root / "usr/alias")
    (root / "lib").symlink_to("usr")
    settle(root)
    return root


def settle(root: Path, at: int = EPOCH) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(at, at), follow_symlinks=False)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal trees."""
    return build(tmp_path / "before"), build(tmp_path / "after")


def test_equal_trees_differ_in_nothing(trees: tuple[Path, Path], census: None) -> None:
    layer = between(*trees)
    assert layer.names == []
    assert layer.blob == bytes(1024)
    assert (layer.written.entries, layer.written.size) == (0, 1024)
    assert layer.written.skipped == {}


def test_a_whole_tree_is_sorted_and_links_its_names(trees: tuple[Path, Path]) -> None:
    layer = between(None, trees[0])
    assert layer.names == [
        "/", "etc/", "etc/conf/", "etc/conf/a", "etc/motd", "lib", "usr/", "usr/alias", "usr/tool",
    ]  # fmt: skip
    by_name = {b"/".join(entry.path): entry for entry, _ in layer.layer}
    assert by_name[b"usr/tool"].type is EntryType.HARDLINK
    assert by_name[b"usr/tool"].link_path == (b"usr", b"alias")
    assert by_name[b"usr/alias"].size == 4


def test_a_change_brings_its_parents_and_nothing_else(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/conf/a").write_bytes(b"b" * 3000)
    settle(after)
    assert between(before, after).names == ["/", "etc/", "etc/conf/", "etc/conf/a"]


def test_what_is_gone_is_deleted_name_by_name(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/conf/a").unlink()
    (after / "etc/conf").rmdir()
    (after / "lib").unlink()
    settle(after)
    layer = between(before, after)
    assert layer.names == ["/", ".wh.lib", "etc/", "etc/.wh.conf"]
    whiteout = layer.layer[1][0]
    assert (whiteout.type, whiteout.mtime, whiteout.size) == (EntryType.FILE, 0, 0)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda root: os.chmod(root / "etc/motd", 0o600), ["/", "etc/", "etc/motd"]),
        (lambda root: os.utime(root / "etc/motd", ns=(0, EPOCH + 1)), ["/", "etc/", "etc/motd"]),
        (lambda root: os.setxattr(root / "etc", "user.x", b"1"), ["/", "etc/"]),
        (lambda root: os.chmod(root, 0o700), ["/"]),
        (lambda root: os.setxattr(root / "etc/motd", "user.overlay.x", b"1"), []),
    ],
    ids=["mode", "nanosecond", "xattr", "root", "mark-of-an-overlay"],
)
def test_attributes_count(trees: tuple[Path, Path], change: object, names: list[str]) -> None:
    assert callable(change)
    change(trees[1])
    assert between(*trees).names == names


def _unlink_alias(root: Path) -> None:
    (root / "usr/alias").unlink()


def _another(root: Path) -> None:
    os.link(root / "usr/tool", root / "usr/zz")


def _apart(root: Path) -> None:
    (root / "usr/alias").unlink()
    (root / "usr/alias").write_bytes(b"tool")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (_unlink_alias, ["/", "usr/", "usr/.wh.alias"]),
        (_another, ["/", "usr/", "usr/alias", "usr/tool", "usr/zz"]),
        (_apart, ["/", "usr/", "usr/alias", "usr/tool"]),
    ],
    ids=["one-less", "one-more", "no-longer-linked"],
)
def test_links_are_told_whole_or_not_at_all(
    trees: tuple[Path, Path], change: object, names: list[str]
) -> None:
    assert callable(change)
    change(trees[1])
    settle(trees[1])
    assert between(*trees).names == names


def test_files_of_equal_size_and_time_are_read(trees: tuple[Path, Path]) -> None:
    (trees[1] / "etc/motd").write_bytes(b"HELLO\n")
    settle(trees[1])
    assert between(*trees).names == ["/", "etc/", "etc/motd"]


def test_a_directory_for_a_file_and_back(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/motd").unlink()
    (after / "etc/motd").mkdir()
    (after / "etc/motd/deep").touch()
    (after / "etc/conf/a").unlink()
    (after / "etc/conf").rmdir()
    (after / "etc/conf").touch()
    settle(after)
    assert between(before, after).names == ["/", "etc/", "etc/conf", "etc/motd/", "etc/motd/deep"]
    assert between(after, before).names == ["/", "etc/", "etc/conf/", "etc/conf/a", "etc/motd"]


def test_names_are_bytes_and_sparse_files_plain_data(tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xff\n" + b"x" * 250)
    (tmp_path / "a").mkdir()
    with (tmp_path / "a" / name).open("wb") as sparse:
        sparse.truncate(3 << 20)
    layer = between(None, tmp_path / "a").layer
    assert layer[1][0].path == (os.fsencode(name),)
    assert layer[1][1] == bytes(3 << 20)


def test_later_times_are_brought_down(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/new").touch()
    epoch = EPOCH + 5 * 10**9
    layer = between(before, after, DiffOptions(Compression.NONE, latest=epoch))
    assert {entry.path: entry.mtime for entry, _ in layer.layer} == {
        (): EPOCH,
        (b"etc",): epoch,
        (b"etc", b"new"): epoch,
    }


@pytest.mark.parametrize("compression", Compression)
def test_the_same_trees_give_the_same_bytes(
    trees: tuple[Path, Path], compression: Compression
) -> None:
    before, after = trees
    (after / "etc/big").write_bytes(os.urandom(1 << 10) * 3000)
    settle(after)
    options = DiffOptions(compression)
    one, other = between(before, after, options), between(before, after, options)
    assert one == other
    plain = between(before, after)
    inflate = {Compression.GZIP: gzip.decompress, Compression.ZSTD: unzstd}.get(compression, bytes)
    assert inflate(one.blob) == plain.blob
    suffix = "" if compression is Compression.NONE else f"+{compression}"
    assert one.written.descriptor.media_type == OCI_LAYER + suffix
    assert one.written.descriptor.digest == Digest.of(one.blob)
    assert one.written.descriptor.size == len(one.blob)
    assert one.written.diff_id == plain.written.diff_id == Digest.of(plain.blob)
    assert one.written.size == len(plain.blob)


def test_gzip_carries_no_time_and_no_name(trees: tuple[Path, Path]) -> None:
    head = between(*trees, DiffOptions()).blob[:10]
    assert head[:8] == b"\x1f\x8b\x08\0\0\0\0\0"


def test_zlib_does_what_igzip_does() -> None:
    out: list[bytes] = []
    packer = LayerPacker(out.append, Compression.GZIP, slow_gzip)
    packer.write(b"x" * 3_000_000)
    descriptor, diff_id = packer.finish()
    assert gzip.decompress(b"".join(out)) == b"x" * 3_000_000
    assert (descriptor.digest, diff_id) == (
        Digest.of(b"".join(out)),
        Digest.of(b"x" * 3_000_000),
    )


def test_sockets_are_left_out_and_hide_what_was_there(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/motd").unlink()
    for name in ("etc/motd", "etc/new"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(after / name))
    settle(after)
    layer = between(before, after)
    assert layer.names == ["/", "etc/", "etc/.wh.motd"]
    assert layer.written.skipped == {"socket": 2}


@pytest.mark.parametrize("side", [0, 1])
def test_names_that_mean_deletions_are_refused(trees: tuple[Path, Path], side: int) -> None:
    (trees[side] / "etc/.wh.motd").touch()
    with pytest.raises(RefusedInput, match=r"'etc/\.wh\.motd'"):
        between(*trees)


def test_what_no_layer_can_hold_is_named(trees: tuple[Path, Path], census: None) -> None:
    os.setxattr(trees[1] / "etc/motd", "user.a=b", b"")
    with pytest.raises(RefusedInput, match="'etc/motd'"):
        between(*trees)


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="/no'"):
        between(None, tmp_path / "no")
    with pytest.raises(FailedPrecondition):
        between(None, tmp_path / "file")


@pytest.mark.parametrize("size", [10, 5000, None], ids=["shorter", "longer", "gone"])
def test_a_file_that_changes_meanwhile_is_noticed(
    trees: tuple[Path, Path], size: int | None, census: None
) -> None:
    place = trees[0] / "etc/conf/a"
    calls = 0

    def change() -> None:
        nonlocal calls
        calls += 1
        if calls == 13:  # names noted, and the walk that writes is before the file
            place.unlink() if size is None else os.truncate(place, size)

    with pytest.raises(FailedPrecondition, match="'etc/conf/a' changed"):
        between(None, trees[0], DiffOptions(Compression.NONE, checkpoint=change))


def test_a_checkpoint_ends_the_work(trees: tuple[Path, Path], census: None) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        between(None, trees[0], DiffOptions(checkpoint=stop))


def test_a_deep_tree_takes_two_descriptors(tmp_path: Path) -> None:
    place, depth = os.open(tmp_path, os.O_RDONLY), 1500
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    try:
        assert between(None, tmp_path).written.entries == depth + 1
        assert between(tmp_path, tmp_path).written.entries == 0
    finally:
        # pytest's own clean-up recurses.
        with opened(str(tmp_path)) as top:
            remove.remove_name(top, b"d")


def test_payload_is_written_as_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with (tmp_path / "t/big").open("wb") as big:
        big.truncate(64 << 20)
    pieces: list[int] = []
    diff_trees(None, str(tmp_path / "t"), lambda data: pieces.append(len(data)), PLAIN)
    assert max(pieces) <= 1 << 20
    assert sum(pieces) > 64 << 20


@pytest.mark.needs_root
class TestUpper:
    """Upper directories, as overlayfs leaves them."""

    @pytest.fixture
    def upper(self, tmp_path: Path) -> Path:
        root = tmp_path / "upper"
        (root / "etc").mkdir(parents=True)
        os.mknod(root / "etc/gone", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
        (root / "etc/new").mkdir()
        (root / "etc/new/file").write_bytes(b"data")
        return root

    @pytest.mark.parametrize("style", [WhiteoutStyle.OVERLAY, WhiteoutStyle.OVERLAY_USER])
    def test_marks_become_whiteouts(self, upper: Path, style: WhiteoutStyle) -> None:
        os.setxattr(upper / "etc/new", style.opaque_xattr, b"y")
        layer = of_upper(upper, style)
        assert layer.names == [
            "/", "etc/", "etc/.wh.gone", "etc/new/", "etc/new/.wh..wh..opq", "etc/new/file",
        ]  # fmt: skip
        assert all(not entry.xattrs for entry, _ in layer.layer)

    @pytest.mark.parametrize(
        ("nearest", "below", "marked"),
        [("directory", "", True), ("", "directory", True), ("link", "directory", False),
         ("file", "directory", False), ("", "", False)],
    )  # fmt: skip
    def test_a_mark_needs_a_directory_to_hide(
        self, upper: Path, nearest: str, below: str, marked: bool
    ) -> None:
        os.setxattr(upper / "etc/new", WhiteoutStyle.OVERLAY.opaque_xattr, b"y")
        lowers = []
        for name, kind in (("one", nearest), ("two", below)):
            place = upper.parent / name / "etc"
            place.mkdir(parents=True)
            if kind == "directory":
                (place / "new").mkdir()
            elif kind == "link":
                (place / "new").symlink_to("/")
            elif kind == "file":
                (place / "new").touch()
            lowers.append(str(place.parent))
        layer = of_upper(upper, lowers=lowers)
        assert ("etc/new/.wh..wh..opq" in layer.names) is marked

    def test_the_other_styles_mark_means_nothing(self, upper: Path) -> None:
        os.setxattr(upper / "etc/new", WhiteoutStyle.OVERLAY_USER.opaque_xattr, b"y")
        assert ".wh..wh..opq" not in str(of_upper(upper).names)

    def test_an_opaque_root(self, upper: Path) -> None:
        os.setxattr(upper, WhiteoutStyle.OVERLAY.opaque_xattr, b"y")
        assert of_upper(upper).names[:3] == ["/", ".wh..wh..opq", "etc/"]

    @pytest.mark.parametrize(
        ("name", "xattr"), [("etc/new", "redirect"), ("etc/new/file", "metacopy")]
    )
    def test_what_lies_below_is_refused(self, upper: Path, name: str, xattr: str) -> None:
        os.setxattr(upper / name, f"trusted.overlay.{xattr}", b"/x")
        with pytest.raises(Unimplemented, match=f"'{name}' has xattr"):
            of_upper(upper)

    def test_a_whiteout_device_in_a_plain_tree_is_refused(self, upper: Path) -> None:
        with pytest.raises(RefusedInput, match="'etc/gone'"):
            between(None, upper)


@pytest.mark.needs_root
def test_everything_a_tree_can_hold_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "b"
    root.mkdir()
    (root / "tool").write_bytes(b"x")
    os.chown(root / "tool", 2**32 - 2, 8**7)
    os.chmod(root / "tool", 0o6755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(root / "tool", "security.capability", capability)
    acl = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff")
    (root / "dir").mkdir()
    os.setxattr(root / "dir", "system.posix_acl_default", acl)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(4095, 2**20 - 1))
    os.mkfifo(root / "fifo")
    for name in ("fifo", "null"):
        os.link(root / name, root / f"{name}-again")
    os.symlink("t" * 300, root / "link")
    os.link(root / "link", root / "link-again", follow_symlinks=False)
    for number, name in enumerate(sorted(os.listdir(root))):
        at = number * 1_000_000_007 - 5_123_456_789
        os.utime(root / name, ns=(at, at), follow_symlinks=False)
    place = Native(str(tmp_path))
    place.apply(between(None, root).layer)
    with place.mounted() as applied:
        assert tree_digest(applied) == tree_digest(str(root))
        assert between(applied, root).written.entries == 0


def test_it_is_applied_without_privilege_too(trees: tuple[Path, Path]) -> None:
    before, after = trees
    (after / "etc/conf/a").write_bytes(b"new")
    (after / "usr/tool").unlink()
    settle(after)
    layer = between(before, after)
    apply_over(str(before), *layer.layer)
    assert tree_digest(str(before)) == tree_digest(str(after))
