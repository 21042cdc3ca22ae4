"""The adapter to pyfuse3 without a mount: nothing but FUSEError leaves it, and it keeps little."""

from __future__ import annotations

import errno
import stat

import pytest
from support.layers import file, folder
from support.lazy_tables import lazy

from snapcore_fuse.serve import Found, Handlers, Served
from snapcore_fuse.tables import Status

pyfuse3 = pytest.importorskip("pyfuse3")

from snapcore_fuse.serve.pyfuse import _HOT, _HotSet, _Operations  # noqa: E402 - needs pyfuse3


def found(inode: int) -> Found:
    return Found(inode, Status(stat.S_IFREG | 0o644, 1, 2, 3, -5, 1025, 0))


def test_an_attribute_object_says_what_was_found_and_for_ever() -> None:
    entry = _HotSet().entry(found(7 << 32 | 1))
    assert (entry.st_ino, entry.st_mode, entry.st_nlink) == (7 << 32 | 1, 0o100644, 3)
    assert (entry.st_uid, entry.st_gid, entry.st_size, entry.st_blocks) == (1, 2, 1025, 3)
    assert entry.st_mtime_ns == entry.st_ctime_ns == entry.st_atime_ns == -5
    assert min(entry.entry_timeout, entry.attr_timeout) >= 1e9


def test_few_attribute_objects_are_kept() -> None:
    hot = _HotSet()
    first = hot.entry(found(1))
    assert hot.entry(found(1)) is first
    for inode in range(2, 2 * _HOT):
        hot.entry(found(inode))
    assert len(hot._kept) == _HOT
    assert hot.entry(found(1)) is not first


def test_those_of_a_snapshot_can_be_dropped() -> None:
    hot = _HotSet()
    for inode in (7 << 32 | 1, 7 << 32 | 2, 8 << 32 | 1):
        hot.entry(found(inode))
    hot.drop(7)
    assert list(hot._kept) == [8 << 32 | 1]


class Broken(Handlers):
    """Answers with what no transport expects."""

    async def getattr(self, inode: int) -> Found:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("handlers", "inode", "number"),
    [(Handlers({}), 5, errno.ESTALE), (Broken({}), 5, errno.EIO)],
)
async def test_only_its_own_errors_reach_pyfuse3(
    handlers: Handlers, inode: int, number: int
) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await _Operations(handlers, _HotSet()).getattr(inode, None)  # type: ignore[arg-type]
    assert caught.value.errno == number


async def test_nothing_is_remembered_as_nothing() -> None:
    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        raise AssertionError

    trees = {7: Served(lazy([folder("d"), file("f")]).table, read)}
    operations = _Operations(Handlers(trees), _HotSet())
    entry = await operations.lookup(7 << 32 | 1, b"missing", None)  # type: ignore[arg-type]
    assert entry.st_ino == 0
    assert entry.entry_timeout >= 1e9
    entry = await operations.lookup(7 << 32 | 1, b"f", None)  # type: ignore[arg-type]
    assert entry.st_ino == 7 << 32 | 3
