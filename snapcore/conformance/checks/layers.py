"""Layers on layers: what a child changes, and what its own children then see."""

from __future__ import annotations

import os
import shutil
import stat

from snapcore.conformance.harness import Harness, checks, expect, expect_equal, read, write
from snapcore.errors import FailedPrecondition
from snapcore.snapshots import Capability


def check_root_permission(harness: Harness) -> None:
    """An empty snapshot's root has mode 0755, whatever the umask is."""
    s = harness.snapshotter
    umask = os.umask(0o077)
    try:
        mounts = s.prepare("key", "")
        view = s.view("view", "")
    finally:
        os.umask(umask)
    for given in (mounts, view):
        with harness.mounted(given) as root:
            expect_equal(stat.S_IMODE(os.stat(root).st_mode), 0o755, "mode of an empty root")


def check_root_comes_from_the_parent(harness: Harness) -> None:
    """A child's root has mode, owner and time of its parent's, over several layers."""

    def fill(root: str) -> None:
        os.chown(root, 1234, 5678)
        os.chmod(root, 0o2751)  # noqa: S103 - the very thing to check
        os.utime(root, ns=(1_000_000_001, 1_000_000_002))

    harness.layer("base", "", fill)
    harness.layer("middle", "base")
    harness.layer("top", "middle")
    s = harness.snapshotter
    for mounts in (s.prepare("active", "top"), s.view("view", "top")):
        with harness.mounted(mounts) as root:
            status = os.stat(root)
            found = (status.st_uid, status.st_gid, status.st_mode & 0o7777, status.st_mtime_ns)
            expect_equal(found, (1234, 5678, 0o2751, 1_000_000_002), "a child's root")


def check_file_updates(harness: Harness) -> None:
    """A rewrite of the same size and a new mode are seen, round after round (moby 21555)."""
    harness.layer("0", "", lambda root: write(root, "etc/file", b"0000", 0o644))
    for number in range(1, 6):
        data, mode = b"%d" % number * 4, 0o600 + number
        with harness.mounted(harness.snapshotter.prepare("key", f"{number - 1}")) as root:
            write(root, "etc/file", data, mode)
        harness.snapshotter.commit(f"{number}", "key")
        with harness.seen(f"{number}") as root:
            expect_equal(read(root, "etc/file"), data, f"contents in round {number}")
            found = stat.S_IMODE(os.stat(os.path.join(root, "etc/file")).st_mode)
            expect_equal(found, mode, f"mode in round {number}")


def check_directory_removed_and_made_again(harness: Harness) -> None:
    """A directory made anew hides what was in the old one, in later layers too (moby 25244)."""

    def second(root: str) -> None:
        shutil.rmtree(os.path.join(root, "dir"))
        write(root, "dir/new", b"2")

    harness.layer("1", "", lambda root: [write(root, f"dir/old{n}", b"1") for n in range(3)])
    harness.layer("2", "1", second)
    harness.layer("3", "2", lambda root: write(root, "dir/newer", b"3"))
    for name, wanted in (("2", ["new"]), ("3", ["new", "newer"])):
        with harness.seen(name) as root:
            expect_equal(sorted(os.listdir(os.path.join(root, "dir"))), wanted, f"layer {name}")


def check_deleted_files_stay_deleted(harness: Harness) -> None:
    """A deleted file stays away in an empty third layer, and can come back in a fourth."""
    harness.layer("1", "", lambda root: (write(root, "a/gone"), write(root, "a/kept")))
    harness.layer("2", "1", lambda root: os.unlink(os.path.join(root, "a/gone")))
    harness.layer("3", "2")
    harness.layer("4", "3", lambda root: write(root, "a/gone", b"back"))
    with harness.seen("3") as root:
        expect_equal(os.listdir(os.path.join(root, "a")), ["kept"], "the third layer")
    with harness.seen("4") as root:
        expect_equal(read(root, "a/gone"), b"back", "a file that came back")
    with harness.seen("1") as root:
        expect_equal(sorted(os.listdir(os.path.join(root, "a"))), ["gone", "kept"], "the first")


def check_type_changes(harness: Harness) -> None:
    """A file may become a directory, a directory a symlink, a symlink a file."""

    def first(root: str) -> None:
        write(root, "file", b"f")
        write(root, "dir/inside", b"i")
        os.symlink("file", os.path.join(root, "link"))

    def second(root: str) -> None:
        for name in ("file", "link"):
            os.unlink(os.path.join(root, name))
        shutil.rmtree(os.path.join(root, "dir"))
        write(root, "file/now a directory", b"2")
        os.symlink("file", os.path.join(root, "dir"))
        write(root, "link", b"now a file")

    harness.layer("1", "", first)
    harness.layer("2", "1", second)
    with harness.seen("2") as root:
        modes = {name: os.lstat(os.path.join(root, name)).st_mode for name in os.listdir(root)}
        kinds = {name: stat.S_IFMT(mode) for name, mode in modes.items()}
        wanted = {"file": stat.S_IFDIR, "dir": stat.S_IFLNK, "link": stat.S_IFREG}
        expect_equal(kinds, wanted, "types of files")
        expect_equal(os.listdir(os.path.join(root, "file")), ["now a directory"], "a directory")
        expect_equal(os.readlink(os.path.join(root, "dir")), "file", "a symlink")
        expect_equal(read(root, "link"), b"now a file", "a file")


def check_chown(harness: Harness) -> None:
    """Owners given in a later layer are seen (moby 20240, 24913, 28391)."""
    paths = ("opt", "opt/a", "opt/a/b", "opt/a/b/file")

    def chown(root: str) -> None:
        for number, path in enumerate(paths, 1):
            os.chown(os.path.join(root, path), number, number + 10)

    harness.layer("1", "", lambda root: write(root, "opt/a/b/file", b"1"))
    harness.layer("2", "1", chown)
    harness.layer("3", "2", lambda root: write(root, "opt/a/other", b"1"))
    with harness.seen("3") as root:
        for number, path in enumerate(paths, 1):
            status = os.stat(os.path.join(root, path))
            expect_equal((status.st_uid, status.st_gid), (number, number + 10), f"of {path!r}")


def check_directory_owner_on_commit(harness: Harness) -> None:
    """A directory that is removed and made again keeps its new owner (moby 27298)."""

    def again(root: str) -> None:
        shutil.rmtree(os.path.join(root, "dir"))
        os.mkdir(os.path.join(root, "dir"), 0o750)
        os.chown(os.path.join(root, "dir"), 7, 8)

    harness.layer("1", "", lambda root: write(root, "dir/file", b"1"))
    harness.layer("2", "1", again)
    harness.layer("3", "2", lambda root: write(root, "dir/more", b"3"))
    harness.layer("4", "3")
    with harness.seen("4") as root:
        status = os.stat(os.path.join(root, "dir"))
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        expect_equal(found, (7, 8, 0o750), "a directory made again")
        expect_equal(os.listdir(os.path.join(root, "dir")), ["more"], "what it holds")


def check_move_file_from_lower(harness: Harness) -> None:
    """Files move between directories of lower layers by link and by rename."""

    def move(root: str) -> None:
        os.mkdir(os.path.join(root, "new"))
        os.link(os.path.join(root, "old/linked"), os.path.join(root, "new/linked"))
        os.rename(os.path.join(root, "old/renamed"), os.path.join(root, "new/renamed"))
        shutil.rmtree(os.path.join(root, "old"))

    harness.layer("1", "", lambda r: (write(r, "old/linked", b"l"), write(r, "old/renamed", b"r")))
    harness.layer("2", "1", move)
    harness.layer("3", "2")
    with harness.seen("3") as root:
        expect_equal(os.listdir(root), ["new"], "directories after the move")
        expect_equal((read(root, "new/linked"), read(root, "new/renamed")), (b"l", b"r"), "files")


def check_rename_over(harness: Harness) -> None:
    """A new file renamed over one of a lower layer replaces it."""

    def replace(root: str) -> None:
        write(root, "etc/conf.tmp", b"new")
        os.rename(os.path.join(root, "etc/conf.tmp"), os.path.join(root, "etc/conf"))

    harness.layer("1", "", lambda root: write(root, "etc/conf", b"old"))
    harness.layer("2", "1", replace)
    with harness.seen("2") as root:
        expect_equal(
            (os.listdir(os.path.join(root, "etc")), read(root, "etc/conf")),
            (["conf"], b"new"),
            "after the rename",
        )


def check_rename_directory(harness: Harness) -> None:
    """A directory of a lower layer can be renamed."""

    def rename(root: str) -> None:
        os.rename(os.path.join(root, "a"), os.path.join(root, "b"))

    harness.layer("1", "", lambda root: write(root, "a/deep/file", b"1"))
    harness.layer("2", "1", rename)
    with harness.seen("2") as root:
        expect_equal((os.listdir(root), read(root, "b/deep/file")), (["b"], b"1"), "after it")


def check_128_layers(harness: Harness) -> None:
    """128 layers prepare, commit and show as one; files come, change and go on the way."""
    parent, wanted = "", dict[str, bytes]()
    s = harness.snapshotter
    for number in range(128):
        key = f"key {number}"
        mounts = s.prepare(key, parent)
        if number % 8 == 0 or number == 127:
            with harness.mounted(mounts) as root:
                expect_equal(_files(root), wanted, f"what is below layer {number}")
                write(root, f"file{number}", b"%d" % number)
                write(root, "changes", b"%d" % number)
                wanted |= {f"file{number}": b"%d" % number, "changes": b"%d" % number}
                old = f"file{number - 16}"
                if old in wanted:
                    os.unlink(os.path.join(root, old))
                    del wanted[old]
        parent = f"layer {number}"
        s.commit(parent, key)
    with harness.seen(parent) as root:
        expect_equal(_files(root), wanted, "the view of 128 layers")


def check_500_layers(harness: Harness) -> None:
    """500 layers show as one; a backend that cannot says so in time, naming how many."""
    s, parent = harness.snapshotter, ""
    for number in range(500):
        s.prepare("key", "")
        write(s.target("key").directory, f"file{number}", b"%d" % number)
        # Onto its parent only now: preparing on ever more layers is slow, and checked with 128.
        s.commit(f"layer {number}", "key", parent=parent)
        parent = f"layer {number}"
    try:
        s.prepare("key", parent)
    except FailedPrecondition as error:
        expect("500" in str(error), f"the refusal does not say how many layers: {error}")
        with harness.seen("layer 127") as root:
            expect_equal(len(os.listdir(root)), 128, "files of 128 layers")
        return
    with harness.seen(parent) as root:
        expect_equal(len(os.listdir(root)), 500, "files of 500 layers")
        expect_equal((read(root, "file0"), read(root, "file499")), (b"0", b"499"), "two of them")


def _files(root: str) -> dict[str, bytes]:
    return {name: read(root, name) for name in os.listdir(root)}


CHECKS = (
    *checks(
        check_root_permission,
        check_file_updates,
        check_directory_removed_and_made_again,
        check_deleted_files_stay_deleted,
        check_type_changes,
        check_move_file_from_lower,
        check_rename_over,
        check_128_layers,
    ),
    *checks(check_500_layers, needs=(Capability.REBASE,), long=True),
    *checks(
        check_root_comes_from_the_parent,
        check_chown,
        check_directory_owner_on_commit,
        owners=True,
    ),
    *checks(check_rename_directory, needs=(Capability.RENAME_DIR,)),
)
