"""The rules of applying a layer that the model does not know: xattrs, times, roots, passes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

import pytest
from support.layers import (
    SQUASH,
    LocalSteps,
    MemorySource,
    Native,
    Overlay,
    apply_base,
    entry,
    file,
    folder,
    hardlink,
    opaque,
    opened,
    symlink,
    whiteout,
)
from support.tree_model import observe

from snapcore.archive import (
    ApplyPolicy,
    Destination,
    Entry,
    EntryType,
    WhiteoutsFirst,
    apply_entries,
)
from snapcore.archive.deferred import DeferredDirectories
from snapcore.archive.metadata import clamp_time
from snapcore.linux import Resolve, openat2
from snapcore.oci import WhiteoutStyle

DIRECTORY: Final = EntryType.DIRECTORY
CAPABILITY: Final = bytes.fromhex("0100000200200000000000000000000000000000")
ACL: Final = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff")
NAMED_ACL: Final = bytes.fromhex(
    "02000000 01000600ffffffff 02000600e8030000 04000400ffffffff 10000600ffffffff 20000400ffffffff"
)

needs_root = pytest.mark.needs_root
both = pytest.mark.parametrize("kind", [Native, Overlay])


# --- attributes -----------------------------------------------------------------------------------


@needs_root
@both
def test_setuid_and_capabilities_survive_owner_and_data(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply(
        [
            entry(
                "ping",
                data=b"program",
                mode=0o6755,
                ids=(1000, 1000),
                xattrs={b"security.capability": CAPABILITY},
            )
        ]
    )
    place.apply([hardlink("ping2", "ping")])
    with place.mounted() as root:
        for name in ("ping", "ping2"):
            status = os.stat(f"{root}/{name}")
            assert stat.S_IMODE(status.st_mode) == 0o6755
            assert (status.st_uid, status.st_gid) == (1000, 1000)
            assert os.getxattr(f"{root}/{name}", "security.capability") == CAPABILITY


@needs_root
@both
def test_only_allowed_xattrs_are_set_and_the_rest_is_counted(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    hostile = {
        b"trusted.overlay.opaque": b"y",
        b"trusted.overlay.redirect": b"/etc",
        b"user.overlay.whiteout": b"y",
        b"security.selinux": b"label",
        b"system.nfs4_acl": b"acl",
        b"user.kept": b"1",
        b"system.posix_acl_access": NAMED_ACL,
    }
    skipped = place.apply(
        [
            entry("dir", DIRECTORY, mode=0o755, xattrs=hostile),
            entry(
                "pipe", EntryType.FIFO, xattrs={b"user.x": b"1", b"system.posix_acl_access": ACL}
            ),
            entry("link", EntryType.SYMLINK, link="dir", xattrs={b"user.x": b"1"}),
            entry("dir/file", xattrs={b"system.posix_acl_default": ACL}),
        ]
    )
    assert skipped == {
        "xattr:trusted.overlay.opaque": 1,
        "xattr:trusted.overlay.redirect": 1,
        "xattr:user.overlay.whiteout": 1,
        "xattr:security.selinux": 1,
        "xattr:system.nfs4_acl": 1,
        "xattr:user.x": 2,
        "xattr:system.posix_acl_default": 1,
    }
    with place.mounted() as root:
        assert sorted(os.listxattr(f"{root}/dir")) == ["system.posix_acl_access", "user.kept"]
        assert os.listxattr(f"{root}/dir/file") == []


def test_reasons_do_not_grow_without_bound(tmp_path: Path) -> None:
    names = [entry("f", xattrs={b"trusted.%d" % n: b"" for n in range(500)})]
    skipped = apply_base(tmp_path, *names, policy=SQUASH)
    assert len(skipped) <= 101
    assert sum(n for reason, n in skipped.items() if reason != "owner") == 500


@needs_root
@both
def test_a_directory_over_a_directory_loses_the_xattrs_it_does_not_mention(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply([entry("d", DIRECTORY, xattrs={b"user.old": b"1", b"user.both": b"1"})])
    place.apply([entry("d", DIRECTORY, xattrs={b"user.both": b"2", b"user.new": b"3"})])
    with place.mounted() as root:
        names = os.listxattr(f"{root}/d")
        assert {n: os.getxattr(f"{root}/d", n) for n in names if n.startswith("user.")} == {
            "user.both": b"2",
            "user.new": b"3",
        }


@needs_root
@both
@pytest.mark.parametrize(
    ("mode", "acl"), [(0o2755, {}), (0o755, {b"system.posix_acl_default": NAMED_ACL})]
)
def test_nothing_inherits_the_group_or_the_acl_of_its_directory(
    kind: type[Native | Overlay], mode: int, acl: dict[bytes, bytes], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    top = entry("d", DIRECTORY, mode=mode, ids=(0, 50), xattrs=acl)
    first = [
        file("d/file"),
        folder("d/dir"),
        entry("d/pipe", EntryType.FIFO),
        file("d/implied/file"),
        symlink("d/link", "x"),
    ]
    second = [file("d/file2"), entry("d/pipe2", EntryType.FIFO), folder("d/dir2"), file("d/i/f")]
    place.apply([top, *first])
    place.apply(second)
    with place.mounted() as root:
        tree = observe(root)
    assert tree[(b"d",)][6] == list(acl.items())
    del tree[()], tree[(b"d",)]
    assert len(tree) == 11
    for path, (_, _, ids, _, _, _, xattrs, _) in tree.items():
        assert (ids, xattrs) == ((0, 0), []), path


@needs_root
@both
def test_a_new_directory_hides_the_attributes_below_it_at_any_depth(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply([folder("d"), folder("d/sub"), folder("d/sub/deep", mode=0o700, mtime=7)])
    place.apply(
        [
            whiteout("d"),
            folder("d"),
            folder("d/sub"),
            file("d/other"),
            file("d/sub/deep/file"),
        ]
    )
    with place.mounted() as root:
        status = os.stat(f"{root}/d/sub/deep")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o755, 0)


@needs_root
@both
def test_a_link_group_leaves_out_names_that_a_new_symlink_hides(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply(
        [folder("d"), folder("e"), file("h", b"1"), hardlink("d/h", "h"), file("e/h", b"2")]
    )
    place.apply([symlink("d", "e"), hardlink("z", "h")])
    with place.mounted() as root:
        assert os.path.samefile(f"{root}/z", f"{root}/h")
        assert os.stat(f"{root}/h").st_nlink == 2
        assert not os.path.samefile(f"{root}/z", f"{root}/e/h")


@needs_root
@both
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(-5, -5, id="just-before-the-epoch"),
        pytest.param(-(2**31) * 10**9, -(2**31) * 10**9, id="earliest"),
        pytest.param(-(2**31) * 10**9 + 7, -(2**31) * 10**9, id="earliest-has-no-fraction"),
        pytest.param(-(2**63) * 10**9, -(2**31) * 10**9, id="before"),
        pytest.param(2**62 * 10**9, 0x37FFFFFFF * 10**9, id="after"),
        pytest.param(0x37FFFFFFF * 10**9 + 5, 0x37FFFFFFF * 10**9, id="latest-has-no-fraction"),
        pytest.param(1_700_000_000_123_456_789, 1_700_000_000_123_456_789, id="nanoseconds"),
    ],
)
def test_times_are_exact_inside_one_range(
    kind: type[Native | Overlay], given: int, kept: int, tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply([entry("f", mtime=given), entry("d", DIRECTORY, mtime=given), file("d/x")])
    with place.mounted() as root:
        assert os.stat(f"{root}/f").st_mtime_ns == kept
        assert os.stat(f"{root}/d").st_mtime_ns == kept


def test_the_ends_of_the_range_have_no_fraction() -> None:
    # Some filesystems hold more and would keep what others drop.
    first, last = -(2**31) * 10**9, 0x37FFFFFFF * 10**9
    given = [
        first - 1,
        first,
        first + 1,
        first + 10**9 - 1,
        first + 10**9,
        last - 1,
        last,
        last + 1,
    ]
    assert [clamp_time(time) for time in given] == [
        first, first, first, first, first + 10**9, last - 1, last, last,
    ]  # fmt: skip


def test_a_directory_that_was_replaced_is_left_alone_at_the_end(tmp_path: Path) -> None:
    deferred = DeferredDirectories()
    for name in ("same", "other", "link", "file", "gone"):
        (tmp_path / name).mkdir()
        deferred.set((name.encode(),), os.stat(tmp_path / name), 5, 0o500)
    # Renamed rather than removed, or the new one might get the same inode number.
    for name in ("other", "link", "file", "gone"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("old-link")
    (tmp_path / "file").touch()
    with opened(str(tmp_path)) as root:
        deferred.carry_out(root)
    done = {n for n in os.listdir(tmp_path) if os.lstat(tmp_path / n).st_mtime_ns == 5}
    assert done == {"same"}


@needs_root
@both
def test_directories_keep_their_time_whatever_happens_in_them(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    names = ["made", "removed", "replaced", "linked", "emptied", "link-source"]
    place.apply([part for n in names for part in (folder(n, mtime=5), file(f"{n}/f", b"1"))])
    place.apply(
        [
            file("made/new"),
            whiteout("removed/f"),
            symlink("replaced/f", "x"),
            hardlink("linked/g", "link-source/f"),
            opaque("emptied"),
        ]
    )
    with place.mounted() as root:
        assert {n: os.stat(f"{root}/{n}").st_mtime_ns for n in names} == dict.fromkeys(names, 5)


@needs_root
@both
def test_only_the_entry_that_comes_last_decides_over_a_directory(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply([folder("d", mode=0o000, mtime=1), file("d/x"), folder("d", mode=0o700, mtime=2)])
    place.apply([folder("d", mode=0o500, mtime=3), file("d"), file("e/x"), folder("e", mtime=9)])
    with place.mounted() as root:
        assert stat.S_ISREG(os.lstat(f"{root}/d").st_mode)
        assert os.stat(f"{root}/d").st_mtime_ns == 0
        assert os.stat(f"{root}/e").st_mtime_ns == 9


@needs_root
@both
def test_new_names_are_new_inodes(kind: type[Native | Overlay], tmp_path: Path) -> None:
    place = kind(str(tmp_path))
    place.apply([file("f", b"old")])
    with place.mounted() as root, open(f"{root}/f", "rb") as held:
        place.apply([file("f", b"new")])
        assert held.read() == b"old"


@needs_root
@both
def test_replacing_files_does_not_open_their_directory_again(
    kind: type[Native | Overlay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0

    def counting(directory: int, path: bytes, flags: int, resolve: Resolve) -> int:
        nonlocal opened
        opened += 1
        return openat2(directory, path, flags, resolve)

    place = kind(str(tmp_path))
    files = [file(f"dir/{number}") for number in range(20)]
    place.apply([folder("dir"), *files])
    monkeypatch.setattr("snapcore.archive.tree.openat2", counting)
    place.apply(files)
    assert 0 < opened <= 3


# --- the root -------------------------------------------------------------------------------------


@needs_root
def test_an_unmentioned_root_is_fixed_at_the_base(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o1711)
    os.chown(tmp_path, 5, 5)
    os.setxattr(tmp_path, "user.left", b"1")
    apply_base(tmp_path, file("x"))
    status = os.stat(tmp_path)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)
    assert status.st_mtime_ns == 0
    assert os.listxattr(tmp_path) == []


@needs_root
@both
def test_an_unmentioned_root_keeps_what_it_has(
    kind: type[Native | Overlay], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    attributes = {b"user.root": b"1"}
    place.apply([entry("", DIRECTORY, mode=0o1711, ids=(3, 4), mtime=77, xattrs=attributes)])
    with place.mounted() as root:
        before = observe(root)[()]
    place.apply([file("x")])
    place.apply([opaque(), file("y")])
    with place.mounted() as root:
        tree = observe(root)
    assert tree[()] == before
    assert list(tree) == [(), (b"y",)]


@needs_root
def test_a_base_layer_deletes_nothing_and_marks_nothing(tmp_path: Path) -> None:
    steps = LocalSteps()
    layer = [file("d/x"), whiteout("d/x"), opaque("d"), opaque(), whiteout("y")]
    for style in WhiteoutStyle:
        target = tmp_path / style
        target.mkdir()
        with opened(str(target)) as descriptor:
            destination = Destination(descriptor, None, style, base=True)
            apply_entries(MemorySource(layer), destination, ApplyPolicy(), steps)
        assert sorted(observe(str(target))) == [(), (b"d",), (b"d", b"x")]
    assert steps.marked == 0


# --- one pass or two ------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize(
    "layer",
    [
        pytest.param([whiteout("d"), folder("d"), file("d/new")], id="whiteout-before"),
        pytest.param([opaque("d"), file("d/new")], id="opaque-before"),
        pytest.param([folder("d"), opaque("d"), file("d/new")], id="opaque-after-its-directory"),
        pytest.param([whiteout("d"), whiteout("d/one")], id="below-a-whiteout"),
        pytest.param([whiteout("d/one"), opaque("d")], id="whiteout-inside-opaque"),
        pytest.param([file("d/new"), whiteout("d/one")], id="sibling"),
        pytest.param([folder("n"), whiteout("n/x"), file("n/x")], id="in-a-new-directory"),
        pytest.param([file("n/x"), whiteout("n/x")], id="in-an-implied-directory"),
        pytest.param([hardlink("z", "d/two"), whiteout("d/one")], id="sibling-of-a-link-source"),
    ],
)
@both
def test_what_builders_write_takes_one_pass(
    kind: type[Native | Overlay], layer: list[tuple[Entry, bytes]], tmp_path: Path
) -> None:
    place = kind(str(tmp_path))
    place.apply([folder("d"), file("d/one"), file("d/two")])
    place.apply(layer)
    assert place.second_runs == 0


def test_a_late_whiteout_asks_for_a_second_run(tmp_path: Path) -> None:
    apply_base(tmp_path, file("d/one"), policy=SQUASH)
    layer = [file("d/one", b"new"), whiteout("d")]
    with opened(str(tmp_path)) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=False)
        with pytest.raises(WhiteoutsFirst, match="'d'"):
            apply_entries(MemorySource(layer), destination, SQUASH, LocalSteps())


# --- overlay --------------------------------------------------------------------------------------


@needs_root
def test_the_upper_directory_holds_only_what_is_needed(tmp_path: Path) -> None:
    place = Overlay(str(tmp_path))
    place.apply([folder("d"), file("d/one"), folder("d/sub"), file("keep"), file("gone")])
    place.apply(
        [whiteout("gone"), whiteout("nothing"), whiteout("d/nothing"), whiteout("no/thing")]
    )
    upper = place.uppers[-1]
    assert os.listdir(upper) == ["gone"]
    status = os.lstat(f"{upper}/gone")
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0


@needs_root
def test_opaque_marks_stand_only_where_something_would_shine_through(tmp_path: Path) -> None:
    place = Overlay(str(tmp_path))
    place.apply([folder("d"), file("f"), folder("e"), file("d/x")])
    place.apply([whiteout("d"), folder("d"), whiteout("f"), folder("f"), folder("e"), folder("n")])
    upper = place.uppers[-1]
    marked = [n for n in "defn" if "trusted.overlay.opaque" in os.listxattr(f"{upper}/{n}")]
    assert marked == ["d"]


@needs_root
def test_copying_up_keeps_holes_and_data(tmp_path: Path) -> None:
    place = Overlay(str(tmp_path))
    data = os.urandom(1 << 20)
    place.apply([file("big", data), entry("empty")])
    place.apply([hardlink("big2", "big"), hardlink("empty2", "empty")])
    with place.mounted() as root:
        with open(f"{root}/big2", "rb") as copied:
            assert copied.read() == data
        assert os.stat(f"{root}/empty2").st_size == 0
        assert os.path.samefile(f"{root}/big", f"{root}/big2")
