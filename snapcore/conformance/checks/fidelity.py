"""What a child shows of its parent: every attribute, every kind of file, any name and depth."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from snapcore.conformance.harness import Harness, checks, expect, expect_equal, read, write
from snapcore.snapshots import Capability

_DEEP = 2000
_CAPABILITY = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
_ODD_NAMES = (
    b"\xff\xfe not UTF-8",
    b"new\nline",
    b"back\\slash:comma,",
    b" ",
    b"-rf",
    b"\x01\x7f",
    "\u0065\u0301 combining".encode(),
    b"n" * 255,
)


@contextmanager
def _both(harness: Harness, name: str) -> Iterator[tuple[str, str]]:
    """Show a layer twice: through a view, and as an active child sees it."""
    key = f"active on {name}"
    with harness.seen(name) as view, harness.mounted(harness.snapshotter.prepare(key, name)) as a:
        yield view, a
    harness.snapshotter.remove(key)


def check_xattrs(harness: Harness) -> None:
    """`user.*` of files and directories, empty and binary values."""

    def fill(root: str) -> None:
        write(root, "dir/file")
        for path in ("dir", "dir/file"):
            os.setxattr(os.path.join(root, path), "user.snapcore", b"\0\xff")
            os.setxattr(os.path.join(root, path), "user.empty", b"")

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            for path in ("dir", "dir/file"):
                place = os.path.join(root, path)
                names = [name for name in os.listxattr(place) if name.startswith("user.")]
                expect_equal(sorted(names), ["user.empty", "user.snapcore"], f"xattrs of {path!r}")
                expect_equal(os.getxattr(place, "user.snapcore"), b"\0\xff", "a value")


def check_capabilities_and_setuid(harness: Harness) -> None:
    """File capabilities and setuid bits survive beside a foreign owner."""

    def fill(root: str) -> None:
        for name, mode in (("ping", 0o755), ("su", 0o4755), ("wall", 0o2755), ("tmp/x", 0o1777)):
            path = write(root, name, b"#!", mode)
            os.chown(path, 12, 34)
            os.chmod(path, mode)
        os.setxattr(os.path.join(root, "ping"), "security.capability", _CAPABILITY)
        os.chmod(os.path.join(root, "tmp"), 0o3777)  # noqa: S103 - the very thing to check

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            found = os.getxattr(os.path.join(root, "ping"), "security.capability")
            expect_equal(found, _CAPABILITY, "security.capability")
            for name, mode in (("su", 0o4755), ("wall", 0o2755), ("tmp", 0o3777)):
                found_mode = stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode)
                expect_equal(oct(found_mode), oct(mode), f"mode of {name!r}")
            status = os.stat(os.path.join(root, "su"))
            expect_equal((status.st_uid, status.st_gid), (12, 34), "owner of a setuid file")


def check_large_ids(harness: Harness) -> None:
    """Ids up to 2**32 - 2 are kept."""
    largest = 2**32 - 2
    harness.layer("base", "", lambda r: os.chown(write(r, "file"), largest, largest - 1))
    with _both(harness, "base") as roots:
        for root in roots:
            status = os.stat(os.path.join(root, "file"))
            expect_equal((status.st_uid, status.st_gid), (largest, largest - 1), "ids")


def check_hard_links(harness: Harness) -> None:
    """Names of one inode stay names of one inode, across directories."""

    def fill(root: str) -> None:
        write(root, "a/first", b"shared")
        os.mkdir(os.path.join(root, "b"))
        for name in ("a/second", "b/third"):
            os.link(os.path.join(root, "a/first"), os.path.join(root, name))
        os.symlink("nowhere", os.path.join(root, "a/link"))
        os.link(os.path.join(root, "a/link"), os.path.join(root, "b/link"), follow_symlinks=False)
        write(root, "a/alone", b"shared")

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            inodes = {_lstat(root, name).st_ino for name in ("a/first", "a/second", "b/third")}
            expect_equal(len(inodes), 1, "inodes of three names")
            expect_equal(_lstat(root, "a/first").st_nlink, 3, "links of a file")
            same = _lstat(root, "a/link").st_ino == _lstat(root, "b/link").st_ino
            expect(same, "two names of a symlink became two symlinks")
            expect(_lstat(root, "a/alone").st_ino not in inodes, "two equal files became one")


def check_special_files(harness: Harness) -> None:
    """Symlinks and FIFOs with mode and times; sockets."""

    def fill(root: str) -> None:
        os.symlink("../any/where\n", os.path.join(root, "link"))
        os.mkfifo(os.path.join(root, "fifo"))
        os.chmod(os.path.join(root, "fifo"), 0o620)
        os.utime(os.path.join(root, "link"), ns=(1, 2_000_000_003), follow_symlinks=False)
        os.utime(os.path.join(root, "fifo"), ns=(1, 2_000_000_004))
        with socket.socket(socket.AF_UNIX) as server:
            directory = os.open(root, os.O_RDONLY)
            try:
                server.bind(f"/proc/self/fd/{directory}/socket")
            finally:
                os.close(directory)

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            expect_equal(os.readlink(os.path.join(root, "link")), "../any/where\n", "a symlink")
            expect_equal(_lstat(root, "link").st_mtime_ns, 2_000_000_003, "a symlink's time")
            fifo = _lstat(root, "fifo")
            expect_equal(fifo.st_mode, stat.S_IFIFO | 0o620, "a FIFO")
            expect_equal(fifo.st_mtime_ns, 2_000_000_004, "a FIFO's time")
            expect(stat.S_ISSOCK(_lstat(root, "socket").st_mode), "a socket is none any more")


def check_devices(harness: Harness) -> None:
    """Device nodes keep type, number, mode and owner; a symlink its owner."""

    def fill(root: str) -> None:
        for name, mode in (("null", stat.S_IFCHR | 0o666), ("sda", stat.S_IFBLK | 0o660)):
            os.mknod(os.path.join(root, name), mode, os.makedev(1, 3))
            os.chmod(os.path.join(root, name), stat.S_IMODE(mode))
            os.chown(os.path.join(root, name), 3, 4)
        os.symlink("null", os.path.join(root, "link"))
        os.chown(os.path.join(root, "link"), 5, 6, follow_symlinks=False)

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            for name, mode in (("null", stat.S_IFCHR | 0o666), ("sda", stat.S_IFBLK | 0o660)):
                status = _lstat(root, name)
                found = (status.st_mode, status.st_rdev, status.st_uid, status.st_gid)
                expect_equal(found, (mode, os.makedev(1, 3), 3, 4), f"device {name!r}")
            link = _lstat(root, "link")
            expect_equal((link.st_uid, link.st_gid), (5, 6), "owner of a symlink")


def check_sparse_files(harness: Harness) -> None:
    """Holes stay holes, at either end and between, and read as zeros."""
    size, data = 1 << 30, b"x" * 65536

    def fill(root: str) -> None:
        with open(os.path.join(root, "sparse"), "wb") as stream:
            stream.seek(1 << 28)
            stream.write(data)
            stream.truncate(size)
        with open(os.path.join(root, "hole"), "wb") as stream:
            stream.truncate(size)

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            for name in ("sparse", "hole"):
                status = _lstat(root, name)
                expect_equal(status.st_size, size, f"size of {name!r}")
                expect(
                    status.st_blocks * 512 < 1 << 20, f"{name!r} takes {status.st_blocks} blocks"
                )
            with open(os.path.join(root, "sparse"), "rb") as stream:
                stream.seek((1 << 28) - 1)
                expect_equal(stream.read(len(data) + 2), b"\0" + data + b"\0", "data in a hole")


def check_times(harness: Harness) -> None:
    """Modification times are kept to the nanosecond, of directories too, and before 1970."""
    times = {"dir/file": 1_234_567_890_123_456_789, "dir": 987_654_321_987_654_321, "old": -1}

    def fill(root: str) -> None:
        write(root, "dir/file")
        write(root, "old")
        for path, moment in times.items():
            os.utime(os.path.join(root, path), ns=(moment, moment))

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            for path, moment in times.items():
                expect_equal(_lstat(root, path).st_mtime_ns, moment, f"time of {path!r}")


def check_odd_names(harness: Harness) -> None:
    """Names are bytes: any but `/` and NUL, up to 255."""

    def fill(root: str) -> None:
        for name in _ODD_NAMES:
            with open(os.path.join(os.fsencode(root), name), "wb") as stream:
                stream.write(name)
        os.mkdir(os.path.join(os.fsencode(root), b"\xff" * 255))

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            wanted = sorted((*_ODD_NAMES, b"\xff" * 255))
            expect_equal(sorted(os.listdir(os.fsencode(root))), wanted, "names")
            for name in _ODD_NAMES:
                with open(os.path.join(os.fsencode(root), name), "rb") as stream:
                    expect_equal(stream.read(), name, f"contents of {name!r}")


def check_deep_trees(harness: Harness) -> None:
    """2,000 levels, deeper than a path can name, come through, are measured and removed."""
    harness.layer("base", "", lambda root: _go_down(root, make=True))
    s = harness.snapshotter
    usage = s.usage("base")
    expect(usage.inodes >= _DEEP, f"{usage.inodes} inodes counted in {_DEEP} levels")
    with _both(harness, "base") as roots:
        for root in roots:
            expect_equal(_go_down(root, make=False), b"bottom", "what lies at the bottom")
    s.remove("base")
    s.cleanup()


def check_large_directory(harness: Harness) -> None:
    """A directory of 1,000 names is the same in a child."""
    names = {f"{number:05d}" for number in range(1000)}

    def fill(root: str) -> None:
        for name in names:
            write(root, name)

    harness.layer("base", "", fill)
    with _both(harness, "base") as roots:
        for root in roots:
            expect_equal(set(os.listdir(root)), names, "names")


def check_contents_of_files(harness: Harness) -> None:
    """Contents of sizes around blocks and pages are the same, byte by byte."""
    sizes = (0, 1, 511, 512, 513, 4095, 4096, 4097, 65537, (1 << 20) + 1)

    def data(size: int) -> bytes:
        return (b"%07d" % size * (size // 7 + 1))[:size]

    harness.layer("base", "", lambda root: [write(root, f"{n}", data(n)) for n in sizes])
    with _both(harness, "base") as roots:
        for root in roots:
            for size in sizes:
                expect(read(root, f"{size}") == data(size), f"a file of {size} bytes differs")


def _lstat(root: str, path: str) -> os.stat_result:
    return os.lstat(os.path.join(root, path))


def _go_down(root: str, *, make: bool) -> bytes:
    """Make or follow 2,000 directories below each other, and a symlink at the end."""
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(_DEEP):
            if make:
                os.mkdir("d", dir_fd=current)
            following = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
        if make:
            os.symlink("bottom", "link", dir_fd=current)
        return os.readlink(b"link", dir_fd=current)
    finally:
        os.close(current)


CHECKS = (
    *checks(
        check_xattrs,
        check_special_files,
        check_sparse_files,
        check_times,
        check_odd_names,
        check_deep_trees,
        check_large_directory,
        check_contents_of_files,
    ),
    *checks(check_hard_links, needs=(Capability.HARDLINKS,)),
    *checks(check_capabilities_and_setuid, owners=True),
    *checks(check_large_ids, check_devices, privileged=True),
)
