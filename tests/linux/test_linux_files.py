"""openat2, renameat2, FICLONE, syncfs and statfs against the kernel itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel import refused

from snapcore.linux import (
    RenameFlag,
    Resolve,
    ficlone,
    filesystem_type,
    openat2,
    renameat2,
    syncfs,
)
from snapcore.mount import Mount, temporary_mount

_READ = os.O_RDONLY


@pytest.fixture
def tree(tmp_path: Path, census: None) -> Iterator[int]:
    """Yield a descriptor of a directory with a file, a directory and symlinks."""
    top = tmp_path / "top"
    (top / "dir").mkdir(parents=True)
    (top / "file").write_bytes(b"inside")
    (tmp_path / "file").write_bytes(b"outside")
    (top / "up").symlink_to("../file")
    (top / "rooted").symlink_to("/file")
    (top / "magic").symlink_to("/proc/self/root")
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _contents(directory: int, path: bytes, resolve: Resolve) -> bytes:
    descriptor = openat2(directory, path, _READ, resolve)
    with open(descriptor, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("path", [b"file", b"/file", b"../file", b"up", b"rooted", b"dir/../file"])
def test_in_root_every_way_ends_inside(tree: int, path: bytes) -> None:
    assert _contents(tree, path, Resolve.IN_ROOT | Resolve.NO_MAGICLINKS) == b"inside"


@pytest.mark.parametrize(
    ("path", "resolve", "error"),
    [
        (b"/file", Resolve.BENEATH, errno.EXDEV),
        (b"../file", Resolve.BENEATH, errno.EXDEV),
        (b"up", Resolve.BENEATH, errno.EXDEV),
        (b"up", Resolve.NO_SYMLINKS, errno.ELOOP),
        (b"magic/etc", Resolve.NO_MAGICLINKS, errno.ELOOP),
        (b"missing", Resolve.IN_ROOT, errno.ENOENT),
        (b"file/below", Resolve.IN_ROOT, errno.ENOTDIR),
    ],
)
def test_openat2_refuses(tree: int, path: bytes, resolve: Resolve, error: int) -> None:
    with refused(error, path=path):
        openat2(tree, path, _READ, resolve)


@pytest.mark.needs_root
def test_openat2_stays_on_one_filesystem(tree: int, tmp_path: Path) -> None:
    with temporary_mount([Mount("tmpfs", "tmpfs")], str(tmp_path / "top")) as mounted:
        name = os.fsencode(os.path.basename(mounted))
        with refused(errno.EXDEV):
            openat2(tree, name, _READ, Resolve.NO_XDEV)


def test_openat2_makes_files_that_no_child_inherits(tree: int) -> None:
    descriptor = openat2(tree, b"new", os.O_WRONLY | os.O_CREAT, Resolve.BENEATH, 0o640)
    try:
        assert not os.get_inheritable(descriptor)
        assert os.fstat(descriptor).st_mode & 0o777 == 0o640 & ~_umask()
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_rename_exchanges(tree: int) -> None:
    renameat2(tree, b"file", tree, b"dir", RenameFlag.EXCHANGE)
    assert os.path.isdir(f"/proc/self/fd/{tree}/file")
    assert os.path.isfile(f"/proc/self/fd/{tree}/dir")


def test_rename_replaces_nothing(tree: int) -> None:
    with pytest.raises(FileExistsError) as caught:
        renameat2(tree, b"file", tree, b"up", RenameFlag.NOREPLACE)
    assert caught.value.filename == b"up"
    renameat2(tree, b"file", tree, b"free", RenameFlag.NOREPLACE)
    with pytest.raises(FileNotFoundError):
        renameat2(tree, b"file", tree, b"other", RenameFlag.NOREPLACE)


def test_ficlone_shares_or_says_that_it_cannot(tmp_path: Path, census: None) -> None:
    with open(tmp_path / "a", "w+b") as source, open(tmp_path / "b", "w+b") as target:
        source.write(b"x" * 8192)
        source.flush()
        if not _shares(target.fileno(), source.fileno()):
            pytest.skip(f"{filesystem_type(str(tmp_path))} shares no blocks")
        assert target.read() == b"x" * 8192


def _shares(target: int, source: int) -> bool:
    try:
        ficlone(target, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def test_ficlone_does_not_cross_filesystems(tmp_path: Path) -> None:
    with (
        open(tmp_path / "a", "wb") as target,
        open("/proc/self/status", "rb") as source,
        refused(errno.EXDEV, errno.EOPNOTSUPP),
    ):
        ficlone(target.fileno(), source.fileno())


def test_syncfs() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)  # where there is nothing to wait for
    syncfs(descriptor)
    os.close(descriptor)
    with refused(errno.EBADF):
        syncfs(-1)


def test_filesystems_have_names_or_numbers() -> None:
    assert filesystem_type("/proc") == hex(0x9FA0)
    with pytest.raises(FileNotFoundError) as caught:
        filesystem_type("/not/there")
    assert caught.value.filename == "/not/there"


@pytest.mark.needs_root
def test_filesystems_that_have_names(tmp_path: Path, census: None) -> None:
    with temporary_mount([Mount("tmpfs", "tmpfs")], str(tmp_path)) as place:
        assert filesystem_type(place) == "tmpfs"
        for name in ("lower", "upper", "work"):
            os.mkdir(os.path.join(place, name))
        options = tuple(f"{name}dir={place}/{name}" for name in ("lower", "upper", "work"))
        overlay = Mount("overlay", "overlay", options=options)
        with temporary_mount([overlay], str(tmp_path)) as merged:
            assert filesystem_type(merged) == "overlay"
