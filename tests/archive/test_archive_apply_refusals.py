"""Applying a layer where something is in its way: privilege, escapes, and what fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from support.layers import (
    SQUASH,
    LocalSteps,
    MemorySource,
    apply_base,
    apply_over,
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
    apply_entries,
)
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

needs_root = pytest.mark.needs_root


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
