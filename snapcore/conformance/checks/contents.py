"""What a child shows of its parent: any contents, any name, any depth and width."""

from __future__ import annotations

import os

from snapcore.conformance.checks.fidelity import both
from snapcore.conformance.harness import Harness, checks, expect, expect_equal, read, write

_DEEP = 2000
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


def check_sparse_files(harness: Harness) -> None:
    """Holes stay holes, at either end and between, and read as zeros."""
    size, data = 1 << 30, b"x" * 65536

    def fill(root: str) -> None:
        with open(os.path.join(root, "sparse"), "wb") as stream:
            stream.write(b"first")
            stream.seek(1 << 28)
            stream.write(data)
            stream.truncate(size)
        with open(os.path.join(root, "hole"), "wb") as stream:
            stream.truncate(size)

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
        for root in roots:
            for name in ("sparse", "hole"):
                status = os.lstat(os.path.join(root, name))
                expect_equal(status.st_size, size, f"size of {name!r}")
                expect(
                    status.st_blocks * 512 < 1 << 20, f"{name!r} takes {status.st_blocks} blocks"
                )
            with open(os.path.join(root, "sparse"), "rb") as stream:
                expect_equal(stream.read(6), b"first\0", "data before a hole")
                stream.seek((1 << 28) - 1)
                expect_equal(stream.read(len(data) + 2), b"\0" + data + b"\0", "data in a hole")


def check_odd_names(harness: Harness) -> None:
    """Names are bytes: any but `/` and NUL, up to 255."""

    def fill(root: str) -> None:
        for name in _ODD_NAMES:
            with open(os.path.join(os.fsencode(root), name), "wb") as stream:
                stream.write(name)
        os.mkdir(os.path.join(os.fsencode(root), b"\xff" * 255))

    harness.layer("base", "", fill)
    with both(harness, "base") as roots:
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
    with both(harness, "base") as roots:
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
    with both(harness, "base") as roots:
        for root in roots:
            expect_equal(set(os.listdir(root)), names, "names")


def check_contents_of_files(harness: Harness) -> None:
    """Contents of sizes around blocks and pages are the same, byte by byte."""
    sizes = (0, 1, 511, 512, 513, 4095, 4096, 4097, 65537, (1 << 20) + 1)

    def data(size: int) -> bytes:
        return (b"%07d" % size * (size // 7 + 1))[:size]

    harness.layer("base", "", lambda root: [write(root, f"{n}", data(n)) for n in sizes])
    with both(harness, "base") as roots:
        for root in roots:
            for size in sizes:
                expect(read(root, f"{size}") == data(size), f"a file of {size} bytes differs")


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


CHECKS = checks(
    check_sparse_files,
    check_odd_names,
    check_deep_trees,
    check_large_directory,
    check_contents_of_files,
)
