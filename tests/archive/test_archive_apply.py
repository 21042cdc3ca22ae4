"""The rules of applying a layer that the model does not know: privilege, xattrs, roots, escapes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from support.layers import (
    LocalSteps,
    MemorySource,
    Native,
    Overlay,
    entry,
    file,
    folder,
    hardlink,
    observe,
    opaque,
    opened,
    symlink,
    whiteout,
)

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
from snapcore.errors import (
    DataLoss,
    PermissionDenied,
    RefusedInput,
    ResourceExhausted,
    Unimplemented,
)
from snapcore.mount import Mount, temporary_mount
from snapcore.oci import WhiteoutStyle

DIRECTORY: Final = EntryType.DIRECTORY
CHARACTER: Final = EntryType.CHARACTER
CAPABILITY: Final = bytes.fromhex("0100000200200000000000000000000000000000")
ACL: Final = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff")
NAMED_ACL: Final = bytes.fromhex(
    "02000000 01000600ffffffff 02000600e8030000 04000400ffffffff 10000600ffffffff 20000400ffffffff"
)
SQUASH: Final = ApplyPolicy(ids="squash", devices="skip")

needs_root = pytest.mark.needs_root
both = pytest.mark.parametrize("kind", [Native, Overlay])


def apply_base(
    directory: Path | str, *layer: tuple[Entry, bytes], policy: ApplyPolicy | None = None
) -> dict[str, int]:
    """Apply one base layer to a directory that shows the whole tree."""
    with opened(str(directory)) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=True)
        source = MemorySource(layer)
        return dict(apply_entries(source, destination, policy or ApplyPolicy(), LocalSteps()))


def apply_over(directory: str, *layer: tuple[Entry, bytes]) -> None:
    """Apply one more layer to such a directory, without privilege."""
    with opened(directory) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=False)
        apply_entries(MemorySource(layer), destination, SQUASH, LocalSteps())


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


# --- privilege ------------------------------------------------------------------------------------


@needs_root
def test_squash_gives_everything_to_who_applies(tmp_path: Path) -> None:
    capability = {b"security.capability": CAPABILITY}
    skipped = apply_base(
        tmp_path,
        entry("f", ids=(1000, 100), xattrs=capability),
        entry("d", DIRECTORY, ids=(1000, 100), mode=0o755),
        entry("l", EntryType.SYMLINK, ids=(1000, 0), link="f"),
        entry("null", CHARACTER, device=(1, 3)),
        policy=SQUASH,
    )
    assert skipped == {"owner": 3, "xattr:security.capability": 1, "device": 1}
    tree = observe(str(tmp_path))
    assert list(tree) == [(), (b"d",), (b"f",), (b"l",)]
    assert {ids for _, _, ids, *_ in tree.values()} == {(0, 0)}


@needs_root
def test_a_skipped_device_leaves_what_is_there(tmp_path: Path) -> None:
    policy = ApplyPolicy(devices="skip")
    apply_base(tmp_path, file("x", b"1"), entry("x", CHARACTER, device=(1, 3)), policy=policy)
    assert (tmp_path / "x").read_bytes() == b"1"


def as_nobody(directory: Path, action: Callable[[str], object]) -> str:
    """Run an action without privilege on a directory; return what came of it.

    In a forked child: interpreter and modules are not always readable for everybody.
    """
    os.chown(directory, 65534, 65534)
    reading, writing = os.pipe()
    with opened(str(directory)) as descriptor:
        child = os.fork()
        if not child:
            said = "died"
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                action(f"/proc/self/fd/{descriptor}/.")
                said = "done"
            except BaseException as error:  # noqa: BLE001 - it is reported
                said = f"{type(error).__name__} {error}"
            finally:
                os.write(writing, said.encode())
                os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as report:
        said = report.read()
    os.waitpid(child, 0)
    return said


@needs_root
@pytest.mark.parametrize(
    ("item", "policy", "named"),
    [
        pytest.param(file("f"), ApplyPolicy(), "the root directory", id="owner"),
        pytest.param(
            entry("null", CHARACTER, device=(1, 3)),
            ApplyPolicy(ids="squash"),
            "b'null'",
            id="device",
        ),
    ],
)
def test_without_privilege_keeping_is_denied_and_named(
    item: tuple[Entry, bytes], policy: ApplyPolicy, named: str, tmp_path: Path
) -> None:
    said = as_nobody(tmp_path, lambda top: apply_base(top, item, policy=policy))
    assert said.startswith("PermissionDenied")
    assert named in said


@needs_root
def test_without_privilege_locked_directories_can_be_worked_in(tmp_path: Path) -> None:
    def work(top: str) -> None:
        layer = [folder("d", mode=0o500, mtime=5), file("d/a"), folder("d/e", mode=0)]
        apply_base(top, *layer, file("d/e/f"), policy=SQUASH)
        apply_over(top, file("d/b"), file("d/e/g"), whiteout("d/a"))
        apply_over(top, folder("x", mode=0), file("x/y/z"), folder("x/y", mode=0))
        apply_over(top, file("x"))

    assert as_nobody(tmp_path, work) == "done"
    tree = observe(str(tmp_path))
    modes = {os.fsdecode(b"/".join(path)): mode for path, (_, mode, *_) in tree.items()}
    assert modes == {
        "": 0o755, "d": 0o500, "d/b": 0o644, "d/e": 0, "d/e/f": 0o644, "d/e/g": 0o644, "x": 0o644,
    }  # fmt: skip
    assert tree[(b"d",)][3] == 5


# --- escapes --------------------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a target directory beside a tree, on the same filesystem, that must stay as it is."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (outside / "suid").write_bytes(b"program")
    before, links = observe(str(outside)), os.stat(outside / "secret").st_nlink
    target = tmp_path / "target"
    target.mkdir()
    yield target
    assert observe(str(outside)) == before
    assert os.stat(outside / "secret").st_nlink == links
    assert sorted(os.listdir(tmp_path)) == ["outside", "target"]


ESCAPES: Final = {
    "write-through-link": [symlink("x", "../outside"), file("x/pwn", b"1")],
    "write-through-absolute": [symlink("x", "/proc/self/cwd"), file("x/pwn")],
    "overwrite-through-link": [symlink("x", "../outside/secret"), file("x", b"pwn")],
    "append-through-link-chain": [symlink("a", ".."), symlink("b", "a/outside"), file("b/secret")],
    "hard-link-out": [symlink("x", "../outside"), file("secret"), hardlink("y", "x/../secret")],
    "directory-mode-out": [symlink("x", "../outside"), folder("x", mode=0o777)],
    "deferred-times-out": [folder("x", mtime=5), file("x/a"), symlink("x", "../outside")],
    "deferred-mode-out": [
        folder("x/sub", mode=0o000, mtime=5),
        symlink("x", "../outside"),
    ],
    "hard-link-to-symlink-then-chmod": [
        symlink("x", "../outside/suid"),
        hardlink("y", "x"),
        hardlink("y", "x"),
    ],
    "whiteout-out": [symlink("x", "../outside"), whiteout("x/secret"), opaque("x")],
    "magic-link": [symlink("x", "/proc/self/root"), file("x/tmp/pwn")],
}


@needs_root
@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_outside_is_touched(name: str, canary: Path) -> None:
    with suppress(RefusedInput):
        apply_base(canary, *ESCAPES[name])
    # Once more over its own result, where whiteouts and links meet an older tree.
    with opened(str(canary)) as descriptor, suppress(RefusedInput):
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=False)
        apply_entries(MemorySource(ESCAPES[name]), destination, ApplyPolicy(), LocalSteps(), ())


@needs_root
def test_paths_longer_than_path_max_work(tmp_path: Path, census: None) -> None:
    # 1,900 levels of ten bytes, by way of symlinks: no system call could take that path whole.
    part = "/".join(["directory"] * 19)
    layer = []
    for number in range(100):
        top = f"s{number}"
        layer += [folder(f"{top}/{part}"), symlink(f"l{number}", f"/{top}/{part}")]
    apply_base(tmp_path, *layer, file(f"s0/{'/'.join(['n' * 200] * 30)}/end", b"deep"))
    with opened(str(tmp_path)) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=False)
        apply_entries(
            MemorySource([file("s0"), whiteout("s1")]), destination, ApplyPolicy(), LocalSteps()
        )
    assert (tmp_path / "s0").is_file()
    assert not (tmp_path / "s1").exists()


# --- failures -------------------------------------------------------------------------------------


@contextmanager
def small(top: Path, options: str) -> Iterator[str]:
    with temporary_mount([Mount("tmpfs", "tmpfs", options=(options,))], str(top)) as place:
        yield place


@needs_root
@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=5"])
def test_a_full_filesystem_is_said_with_the_entry(
    options: str, tmp_path: Path, census: None
) -> None:
    layer = [file(f"file{n}", bytes(9000)) for n in range(20)]
    with small(tmp_path, options) as place, pytest.raises(ResourceExhausted, match=r"b'file\d+'"):
        apply_base(place, *layer)


class _Failing(MemorySource):
    def __init__(self, number: int) -> None:
        super().__init__([file("broken", b"1")])
        self._number = number

    def copy_payload(self, descriptor: int, /) -> None:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, DataLoss),
        (errno.EDQUOT, ResourceExhausted),
        (errno.EFBIG, ResourceExhausted),
        (errno.EMFILE, ResourceExhausted),
        (errno.EROFS, PermissionDenied),
        (errno.ENOTSUP, Unimplemented),
        (errno.ENAMETOOLONG, RefusedInput),
    ],
)
def test_errors_of_the_kernel_keep_their_meaning(
    number: int, kind: type[Exception], tmp_path: Path, census: None
) -> None:
    with opened(str(tmp_path)) as descriptor:
        destination = Destination(descriptor, None, WhiteoutStyle.APPLY, base=True)
        with pytest.raises(kind, match="b'broken'"):
            apply_entries(_Failing(number), destination, SQUASH, LocalSteps())


@needs_root
def test_a_filesystem_without_user_xattrs_is_unimplemented(tmp_path: Path) -> None:
    with temporary_mount([Mount("ramfs", "ramfs")], str(tmp_path)) as place:
        apply_base(place, file("plain"))
        with pytest.raises(Unimplemented, match="b'x'"):
            apply_base(place, entry("x", xattrs={b"user.x": b"1"}))


@needs_root
def test_steps_that_fail_are_let_through(tmp_path: Path, census: None) -> None:
    class Denied(LocalSteps):
        def mark_opaque(self, directory: int) -> None:
            raise PermissionDenied("no overlay for you")

    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "d").mkdir(parents=True)
    upper.mkdir()
    with opened(str(upper)) as descriptor, opened(str(lower)) as below:
        destination = Destination(descriptor, below, WhiteoutStyle.OVERLAY, base=False)
        with pytest.raises(PermissionDenied, match="no overlay"):
            apply_entries(MemorySource([opaque("d")]), destination, ApplyPolicy(), Denied())


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
