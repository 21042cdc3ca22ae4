"""Handlers without a mount: what they answer, and that they answer whatever happens."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import stat

import pytest
import trio
from support.layers import Layer, entry, file, folder, opaque, symlink, whiteout
from support.lazy_tables import LazyLayer, lazy

from snapcore.archive import EntryType
from snapcore.errors import (
    DataLoss,
    DigestMismatch,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SnapcoreError,
    Unavailable,
    Unimplemented,
)
from snapcore.oci import WhiteoutStyle
from snapcore_fuse.serve import ROOT, Found, Handlers, Served, Space, errno_of, inode_number

LAYER: Layer = [
    folder("d"),
    file("d/x", b"0123456789"),
    file("d/empty"),
    symlink("s", "d/x"),
    entry("k", xattrs={b"user.k": b"v"}, data=b"kk"),
    entry("null", EntryType.CHARACTER, device=(1, 3)),
]


def served(layer: LazyLayer) -> Served:
    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        assert source == 0
        return layer.stream[start : start + size]

    return Served(layer.table, read)


def handlers(*layers: Layer) -> Handlers:
    return Handlers({number: served(lazy(layer)) for number, layer in enumerate(layers, 7)})


async def find(answers: Handlers, path: str) -> Found:
    found = Found(ROOT, (await answers.getattr(ROOT)).status)
    for name in os.fsencode(path).split(b"/"):
        child = await answers.lookup(found.inode, name)
        assert child is not None, path
        found = child
    return found


async def listing(
    answers: Handlers, inode: int, after: int = 0, room: int = 1000
) -> list[tuple[bytes, int, int]]:
    taken: list[tuple[bytes, int, int]] = []

    def emit(name: bytes, found: Found, following: int) -> bool:
        if len(taken) >= room:
            return False
        taken.append((name, found.inode, following))
        return True

    await answers.readdirplus(await answers.opendir(inode), after, emit)
    return taken


def fails(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


async def test_a_path_leads_to_attributes_and_bytes() -> None:
    answers = handlers(LAYER)
    found = await find(answers, "7/d/x")
    assert found.status.mode == stat.S_IFREG | 0o644
    assert found == await answers.getattr(found.inode)
    handle = await answers.open(found.inode, os.O_RDONLY)
    assert await answers.read(handle, 2, 3) == b"234"
    await answers.release(handle)


@pytest.mark.parametrize(
    ("offset", "size", "data"),
    [(0, 10, b"0123456789"), (0, 4096, b"0123456789"), (9, 2, b"9"), (10, 1, b""), (2**62, 1, b"")],
)
async def test_reads_end_with_the_file(offset: int, size: int, data: bytes) -> None:
    answers = handlers(LAYER)
    inode = (await find(answers, "7/d/x")).inode
    assert await answers.read(inode, offset, size) == data


async def test_what_has_no_bytes_reads_as_empty() -> None:
    answers = handlers(LAYER)
    for path in ("7/d/empty", "7/null"):
        assert await answers.read((await find(answers, path)).inode, 0, 10) == b""


async def test_numbers_depend_on_the_snapshot_and_the_table_only() -> None:
    one, two = handlers(LAYER, LAYER), handlers(LAYER, LAYER)
    assert await find(one, "8/d/x") == await find(two, "8/d/x")
    table = lazy(LAYER).table
    assert (await find(one, "8")).inode == inode_number(8, 0) == 8 << 32 | 1
    for name, child in table.children(0):
        assert (await find(one, f"7/{os.fsdecode(name)}")).inode == inode_number(7, child)


async def test_what_is_not_in_a_tree_never_will_be() -> None:
    answers = handlers(LAYER)
    assert await answers.lookup(inode_number(7, 0), b"nothing") is None


@pytest.mark.parametrize("name", [b"9", b"07", b"-7", b"+7", b" 7", b"7 ", b"x", b"", b"\xd9\xa7"])
async def test_what_is_not_in_the_root_may_come(name: bytes) -> None:
    with fails(errno.ENOENT):
        await handlers(LAYER).lookup(ROOT, name)


async def test_a_name_that_is_too_long_is_said_to_be() -> None:
    with fails(errno.ENAMETOOLONG):
        await handlers(LAYER).lookup(inode_number(7, 0), b"n" * 256)


async def test_the_root_lists_snapshots_as_they_come_and_go() -> None:
    trees = {number: served(lazy(LAYER)) for number in (100, 9, 11)}
    answers = Handlers(trees)
    names = [(name, after) for name, _, after in await listing(answers, ROOT)]
    assert names == [(b"9", 9), (b"11", 11), (b"100", 100)]
    del trees[11]
    trees[12] = served(lazy([]))
    assert [name for name, _, _ in await listing(answers, ROOT, 9)] == [b"12", b"100"]


@pytest.mark.parametrize("room", [1, 2, 5])
async def test_a_directory_can_be_listed_in_pieces(room: int) -> None:
    answers = handlers(LAYER)
    inode = inode_number(7, 0)
    whole = await listing(answers, inode)
    assert [name for name, _, _ in whole] == sorted([b"d", b"s", b"k", b"null"])
    pieces: list[tuple[bytes, int, int]] = []
    while piece := await listing(answers, inode, pieces[-1][2] if pieces else 0, room):
        pieces += piece
    assert pieces == whole


async def test_links_lead_on_and_nothing_else_does() -> None:
    answers = handlers(LAYER)
    assert await answers.readlink((await find(answers, "7/s")).inode) == b"d/x"
    with fails(errno.EINVAL):
        await answers.readlink((await find(answers, "7/d")).inode)


async def test_xattrs_are_answered_from_memory() -> None:
    answers = handlers(LAYER)
    inode = (await find(answers, "7/k")).inode
    assert await answers.getxattr(inode, b"user.k") == b"v"
    assert list(await answers.listxattr(inode)) == [b"user.k"]
    assert list(await answers.listxattr(ROOT)) == []
    for where in (inode, ROOT, inode_number(7, 0)):
        with fails(errno.ENODATA):
            await answers.getxattr(where, b"trusted.overlay.metacopy")


@pytest.mark.parametrize("style", [WhiteoutStyle.OVERLAY, WhiteoutStyle.OVERLAY_USER])
async def test_marks_are_what_overlayfs_looks_for(style: WhiteoutStyle) -> None:
    below = lazy([folder("d"), file("d/x", b"x"), file("f", b"f")])
    answers = Handlers({3: served(lazy([opaque("d"), whiteout("f")], [below], style=style))})
    mark = style.opaque_xattr.encode()
    inode = (await find(answers, "3/d")).inode
    assert await answers.getxattr(inode, mark) == b"y"
    assert list(await answers.listxattr(inode)) == [mark]
    gone = (await find(answers, "3/f")).status
    assert (gone.mode, gone.device) == (stat.S_IFCHR, 0)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
async def test_nothing_can_be_opened_for_writing(flags: int) -> None:
    answers = handlers(LAYER)
    with fails(errno.EROFS):
        await answers.open((await find(answers, "7/d/x")).inode, flags)


async def test_what_is_served_no_more_is_stale() -> None:
    trees = {7: served(lazy(LAYER))}
    answers = Handlers(trees)
    inode = (await find(answers, "7/d/x")).inode
    trees.clear()
    for request in (answers.getattr, answers.readlink, answers.opendir, answers.listxattr):
        with fails(errno.ESTALE):
            await request(inode)
    with fails(errno.ESTALE):
        await answers.read(inode, 0, 1)


@pytest.mark.parametrize("inode", [0, 2, 7 << 32, inode_number(7, 100), 2**64 - 1])
async def test_a_number_of_nothing_is_stale(inode: int) -> None:
    with fails(errno.ESTALE):
        await handlers(LAYER).getattr(inode)


async def test_there_is_as_much_as_the_tables_say() -> None:
    assert await handlers(LAYER, []).statfs() == Space(12, len(LAYER) + 1 + 1)


@pytest.mark.parametrize("request_", ["flush", "access"])
async def test_some_requests_are_not_wanted_again(request_: str) -> None:
    answers = handlers(LAYER)
    with fails(errno.ENOSYS):
        await (answers.flush(1) if request_ == "flush" else answers.access(1, 4))


# --- failures -------------------------------------------------------------------------------------


def failing(error: BaseException) -> Handlers:
    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        raise error

    return Handlers({7: Served(lazy(LAYER).table, read)})


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (DataLoss("x"), errno.EIO),
        (DigestMismatch("x"), errno.EIO),
        (NotFound("x"), errno.EIO),
        (PermissionDenied("x"), errno.EACCES),
        (Unavailable("x"), errno.ETIMEDOUT),
        (ResourceExhausted("x"), errno.ENOSPC),
        (Unimplemented("x"), errno.EOPNOTSUPP),
        (OSError(errno.ENOMEM, "x"), errno.ENOMEM),
        (OSError("without a number"), errno.EIO),
        (ZeroDivisionError("x"), errno.EIO),
        (RecursionError("x"), errno.EIO),
        (trio.TooSlowError("x"), errno.EIO),
        (ExceptionGroup("one", [Unavailable("x")]), errno.ETIMEDOUT),
        (ExceptionGroup("one", [OSError(errno.ENOMEM, "x")]), errno.ENOMEM),
        (ExceptionGroup("two", [Unavailable("x"), DataLoss("y")]), errno.EIO),
    ],
)
async def test_every_failure_becomes_an_errno(error: Exception, number: int) -> None:
    answers = failing(error)
    inode = (await find(answers, "7/d/x")).inode
    with fails(number):
        await answers.read(inode, 0, 1)
    assert await answers.getattr(inode)


async def test_what_nobody_foresaw_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answers = failing(ZeroDivisionError("a bug"))
    with caplog.at_level(logging.ERROR), fails(errno.EIO):
        await answers.read((await find(answers, "7/d/x")).inode, 0, 1)
    assert "read failed" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_whoever_gives_the_bytes_is_told_where_the_file_ends() -> None:
    asked = []

    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        asked.append((start, size, file_end))
        return bytes(size)

    layer = lazy(LAYER)
    answers = Handlers({7: Served(layer.table, read)})
    inode = (await find(answers, "7/d/x")).inode
    size = (await answers.getattr(inode)).status.size
    await answers.read(inode, 1, 2)
    ((start, wanted, file_end),) = asked
    assert (wanted, file_end - start) == (2, size - 1)


@pytest.mark.parametrize("data", [b"", b"012345678", b"01234567890"])
async def test_too_few_or_too_many_bytes_are_no_answer(data: bytes) -> None:
    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        return data

    answers = Handlers({7: Served(lazy(LAYER).table, read)})
    with fails(errno.EIO):
        await answers.read((await find(answers, "7/d/x")).inode, 0, 10)


async def test_a_request_can_be_cancelled() -> None:
    async def read(source: int, start: int, size: int, file_end: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    answers = Handlers({7: Served(lazy(LAYER).table, read)})
    inode = (await find(answers, "7/d/x")).inode
    with trio.move_on_after(0.01) as scope:
        await answers.read(inode, 0, 1)
    assert scope.cancelled_caught


def test_every_handler_is_guarded() -> None:
    methods = dict(inspect.getmembers(Handlers, inspect.iscoroutinefunction))
    assert len(methods) == 13
    for name, method in methods.items():
        assert hasattr(method, "__wrapped__"), name


@pytest.mark.parametrize("kind", SnapcoreError.__subclasses__())
def test_every_error_has_an_errno(kind: type[SnapcoreError]) -> None:
    assert errno_of(kind("x")) in errno.errorcode
