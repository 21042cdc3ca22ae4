"""The tree digest: what it covers, what it leaves out, and its pinned form."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from snapcore.archive import tree_digest, tree_listing
from snapcore.errors import FailedPrecondition, NotFound

pytestmark = pytest.mark.usefixtures("census")

OWNER = f"{os.getuid()}:{os.getgid()}"
EMPTY = hashlib.sha256(b"").hexdigest()


def build(root: Path) -> Path:
    """Make a small tree with fixed times."""
    root.mkdir()
    (root / "a").mkdir(mode=0o755)
    (root / "a" / "file").write_bytes(b"data")
    (root / "a.b").write_bytes(b"")
    (root / "z").hardlink_to(root / "a.b")
    (root / "link").symlink_to("a b")
    os.mkfifo(root / "fifo", 0o600)
    settle(root)
    return root


def settle(root: Path) -> None:
    """Give everything the same modes and times."""
    for path in (*root.rglob("*"), root):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, ns=(5, -1_500_000_000), follow_symlinks=False)


def test_listing_is_pinned_and_the_digest_is_its_sha256(tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    data = hashlib.sha256(b"data").hexdigest()
    time = "-2.500000000"
    expected = [
        "#snapcore-tree 1",
        f". directory 0755 {OWNER} {time}",
        f"a directory 0755 {OWNER} {time}",
        f"a/file file 0644 {OWNER} {time} size=4 sha256={data}",
        f"a.b file 0644 {OWNER} {time} size=0 sha256={EMPTY}",
        f"fifo fifo 0644 {OWNER} {time}",
        f"link symlink 0777 {OWNER} {time} target=a\\x20b",
        f"z file 0644 {OWNER} {time} size=0 sha256={EMPTY} same=a.b",
    ]
    assert list(tree_listing(root.as_posix())) == expected
    found = tree_digest(os.fsencode(root))
    assert (
        found.digest.hex == hashlib.sha256("".join(f"{x}\n" for x in expected).encode()).hexdigest()
    )
    assert (found.entries, found.size) == (7, 4)


def test_size_counts_each_inode_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert tree_digest(str(tmp_path)).size == 4


def test_a_directory_that_moves_is_noticed(tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    listing = tree_listing(str(root))
    while not next(listing).startswith("a/file "):
        pass
    (tmp_path / "elsewhere").mkdir()
    (root / "a").rename(tmp_path / "elsewhere" / "a")
    with pytest.raises(FailedPrecondition, match="moved"):
        list(listing)


def test_equal_trees_have_equal_digests(tmp_path: Path) -> None:
    one, other = build(tmp_path / "one"), build(tmp_path / "other")
    (other / "a" / "file").read_bytes()
    for number in range(300):  # directory sizes and inode numbers do not count
        (other / f"gone{number}").touch()
        (other / f"gone{number}").unlink()
    (tmp_path / "outside").hardlink_to(other / "a" / "file")  # nor do names outside
    settle(other)
    assert tree_digest(str(one)) == tree_digest(str(other))


def _split(root: Path) -> None:
    (root / "z").unlink()
    (root / "z").touch()
    settle(root)


def _touch(root: Path) -> None:
    os.utime(root / "a", ns=(5, -1_499_999_999))


def _retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("a c")
    settle(root)


def _rename(root: Path) -> None:
    (root / "fifo").rename(root / "fifp")
    settle(root)


def _content(root: Path) -> None:
    (root / "a" / "file").write_bytes(b"dat\xe1")
    settle(root)


def _kind(root: Path) -> None:
    (root / "fifo").unlink()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(root / "fifo"))
    settle(root)


def _xattr(root: Path) -> None:
    os.setxattr(root / "a.b", "user.a", b"")


def _xattr_directory(root: Path) -> None:
    os.setxattr(root / "a", "user.a", b"1")


def _xattr_root(root: Path) -> None:
    os.setxattr(root, "user.a", b"1")


@pytest.mark.parametrize(
    "change",
    [
        _split,
        _touch,
        _retarget,
        _rename,
        _content,
        _kind,
        _xattr,
        _xattr_directory,
        _xattr_root,
        lambda root: (root / "a").chmod(0o1755),
        lambda root: root.chmod(0o700),
    ],
)
def test_each_change_changes_the_digest(change: Callable[[Path], None], tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    before = tree_digest(str(root)).digest
    change(root)
    assert tree_digest(str(root)).digest != before


def test_backends_own_xattrs_do_not_count(tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    before = tree_digest(str(root))
    os.setxattr(root / "a", "user.overlay.opaque", b"y")
    assert tree_digest(str(root)) == before


@pytest.mark.needs_root
def test_devices_owners_and_capabilities(tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.chown(root / "a" / "file", 7, 2**32 - 2)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(root / "a" / "file", "security.capability", capability)
    os.setxattr(root / "a" / "file", "trusted.mine", b"x")
    lines = {line.split(" ")[0]: line for line in tree_listing(str(root))}
    assert " device=1:3" in lines["null"]
    assert " 7:4294967294 " in lines["a/file"]
    assert lines["a/file"].endswith(f" xattr.security.capability={capability.hex()}")


def test_odd_bytes_are_escaped(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name in (b"new\nline", b"\xff\xc3\xa9", b"back\\slash", b"sp ace"):
        os.close(os.open(root + b"/" + name, os.O_CREAT, 0o644))
    os.setxattr(root + b"/sp ace", b"user.a=\n", b"v")
    lines = list(tree_listing(root))[2:]
    assert [line.split(" ")[0] for line in lines] == [
        "back\\x5cslash",
        "new\\x0aline",
        "sp\\x20ace",
        "\\xff\\xc3\\xa9",
    ]
    assert lines[2].endswith(" xattr.user.a\\x3d\\x0a=76")


def test_deep_trees_need_one_descriptor(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    try:
        assert tree_digest(str(tmp_path)).entries == 2001
    finally:
        _remove_chain(tmp_path)


def _remove_chain(root: Path) -> None:
    # pytest's own clean-up recurses, so the chain is cut from its top.
    spare = root.parent / f"{root.name}-spare"
    while (root / "d").exists():
        inner = root / "d" / "d"
        if inner.exists():
            inner.rename(spare)
        (root / "d").rmdir()
        if spare.exists():
            spare.rename(root / "d")


def test_symlinks_are_never_followed(tmp_path: Path) -> None:
    root = build(tmp_path / "root")
    (tmp_path / "outside").mkdir()
    (root / "door").symlink_to(tmp_path / "outside")
    before = tree_digest(str(root))
    (tmp_path / "outside" / "file").touch()
    assert tree_digest(str(root)) == before


def test_what_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing"):
        tree_digest(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition):
        tree_digest(str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(FailedPrecondition):
        tree_digest(str(tmp_path / "link"))


def test_an_unfinished_listing_leaves_no_descriptor(tmp_path: Path) -> None:
    listing = tree_listing(str(build(tmp_path / "root")))
    next(listing)
    next(listing)
    del listing
