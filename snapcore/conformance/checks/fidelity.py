"""What a child shows of its parent: every attribute, and every kind of file."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from snapcore.conformance.harness import Harness, LeftOut, checks, expect, expect_equal, write
from snapcore.snapshots import Capability

_CAPABILITY = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
_NOBODY = 2**32 - 1
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_ACL = struct.pack("<I", 2) + b"".join(
    # Tag, permissions, id: owner, user 1234, group, mask, others (acl(5), linux/posix_acl_xattr.h).
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, _NOBODY),
        (2, 4, 1234),
        (4, 4, _NOBODY),
        (16, 4, _NOBODY),
        (32, 4, _NOBODY),
    )
)


@contextmanager
def both(harness: Harness, name: str) -> Iterator[tuple[str, str]]:
    """Show a layer twice for the duration of a `with` block, and yield where.

    Args:
        harness: of the check.
        name: of the layer.

    Yields:
        A view of it, and an Active on it.
    """
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
    with both(harness, "base") as roots:
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
    with both(harness, "base") as roots:
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
    with both(harness, "base") as roots:
        for root in roots:
            status = os.stat(os.path.join(root, "file"))
            expect_equal((status.st_uid, status.st_gid), (largest, largest - 1), "ids")


def check_hard_links(harness: Harness) -> None:
    """Names of one inode stay names of one inode, across directories."""

    def fill(root: str) -> None:
        write(root, "a/first", b"shared")
        os.mkdir(os.path.join(root, "b"))
        write(root, "a/one of two", b"pair")
        for new, old in (("a/second", "first"), ("b/third", "first"), ("b/two", "one of two")):
            os.link(os.path.join(root, "a", old), os.path.join(root, new))
        os.symlink("nowhere", os.path.join(root, "a/link"))
        for name in ("b/link", "b/link too"):
            link = os.path.join(root, name)
            os.link(os.path.join(root, "a/link"), link, follow_symlinks=False)
        os.mkfifo(os.path.join(root, "a/pipe"))
        os.link(os.path.join(root, "a/pipe"), os.path.join(root, "b/pipe"))
        write(root, "a/alone", b"shared")

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
        for root in roots:
            inodes = {_lstat(root, name).st_ino for name in ("a/first", "a/second", "b/third")}
            expect_equal(len(inodes), 1, "inodes of three names")
            expect_equal(_lstat(root, "a/first").st_nlink, 3, "links of a file")
            for one, two in (("a/one of two", "b/two"), ("a/pipe", "b/pipe")):
                same = _lstat(root, one).st_ino == _lstat(root, two).st_ino
                expect(same, f"{one!r} and {two!r} became two files")
            links = {_lstat(root, name).st_ino for name in ("a/link", "b/link", "b/link too")}
            expect_equal(len(links), 1, "inodes of three names of a symlink")
            expect(_lstat(root, "a/alone").st_ino not in inodes, "two equal files became one")


def check_acls(harness: Harness) -> None:
    """POSIX ACLs of files, directories and FIFOs; what a directory hands down, it hands down."""
    names = ("file", "dir", "fifo")

    def fill(root: str) -> None:
        write(root, "file")
        os.mkdir(os.path.join(root, "dir"), 0o755)
        os.mkfifo(os.path.join(root, "fifo"), 0o644)
        try:
            for name in names:
                os.setxattr(os.path.join(root, name), _ACCESS, _ACL)
            os.setxattr(os.path.join(root, "dir"), _DEFAULT, _ACL)
        except OSError as error:
            raise LeftOut(f"there are no ACLs in its mounts: {error.strerror}") from error

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
        for root in roots:
            for name in names:
                found = os.listxattr(os.path.join(root, name))
                expect(_ACCESS in found, f"the ACL of {name!r} is gone")
                value = os.getxattr(os.path.join(root, name), _ACCESS)
                expect_equal(value, _ACL, f"the ACL of {name!r}")
            value = os.getxattr(os.path.join(root, "dir"), _DEFAULT)
            expect_equal(value, _ACL, "the default ACL of a directory")


def check_special_files(harness: Harness) -> None:
    """Symlinks, whatever they point to, and FIFOs with mode and times; sockets."""
    pointing = {"link to nothing": "../any/where\n", "link to dir": "dir", "link to file": "/file"}

    def fill(root: str) -> None:
        write(root, "dir/inside", b"1")
        write(root, "file", b"1")
        for name, target in pointing.items():
            os.symlink(target, os.path.join(root, name))
        os.mkfifo(os.path.join(root, "fifo"))
        os.chmod(os.path.join(root, "fifo"), 0o620)
        link = os.path.join(root, "link to nothing")
        os.utime(link, ns=(1, 2_000_000_003), follow_symlinks=False)
        os.utime(os.path.join(root, "fifo"), ns=(1, 2_000_000_004))
        with socket.socket(socket.AF_UNIX) as server:
            directory = os.open(root, os.O_RDONLY)
            try:
                server.bind(f"/proc/self/fd/{directory}/socket")
            finally:
                os.close(directory)

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
        for root in roots:
            for name, target in pointing.items():
                expect(stat.S_ISLNK(_lstat(root, name).st_mode), f"{name!r} is no symlink any more")
                expect_equal(os.readlink(os.path.join(root, name)), target, f"target of {name!r}")
            moment = _lstat(root, "link to nothing").st_mtime_ns
            expect_equal(moment, 2_000_000_003, "a symlink's time")
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
    with both(harness, "base") as roots:
        for root in roots:
            for name, mode in (("null", stat.S_IFCHR | 0o666), ("sda", stat.S_IFBLK | 0o660)):
                status = _lstat(root, name)
                found = (status.st_mode, status.st_rdev, status.st_uid, status.st_gid)
                expect_equal(found, (mode, os.makedev(1, 3), 3, 4), f"device {name!r}")
            link = _lstat(root, "link")
            expect_equal((link.st_uid, link.st_gid), (5, 6), "owner of a symlink")


def check_times(harness: Harness) -> None:
    """Modification times are kept to the nanosecond, of directories too, and before 1970."""
    times = {"dir/file": 1_234_567_890_123_456_789, "dir": 987_654_321_987_654_321, "old": -1}

    def fill(root: str) -> None:
        write(root, "dir/file")
        write(root, "old")
        for path, moment in times.items():
            os.utime(os.path.join(root, path), ns=(moment, moment))

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
        for root in roots:
            for path, moment in times.items():
                expect_equal(_lstat(root, path).st_mtime_ns, moment, f"time of {path!r}")


def _lstat(root: str, path: str) -> os.stat_result:
    return os.lstat(os.path.join(root, path))


CHECKS = (
    *checks(check_xattrs, check_special_files, check_times),
    *checks(check_hard_links, needs=(Capability.HARDLINKS,)),
    *checks(check_capabilities_and_setuid, check_acls, owners=True),
    *checks(check_large_ids, check_devices, privileged=True),
)
