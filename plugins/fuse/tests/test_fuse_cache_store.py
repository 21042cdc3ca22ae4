"""The chunk cache: what goes in comes out, within the cap, whatever the disk says."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from snapcore.errors import PermissionDenied, Unavailable
from snapcore.linux import MountFlag, mount, umount
from snapcore.oci import Digest
from snapcore_fuse.cache import ChunkCache, ChunkKey
from snapcore_fuse.cache.segment import SUFFIX, TABLE_SUFFIX, Segment

CAP = 4 << 20
SIZE = 10_000
INDEX = Digest.of(b"index")


def key(number: int, layer: bytes = b"layer", index: Digest = INDEX) -> ChunkKey:
    return ChunkKey(Digest.of(layer), index, number)


def chunk(number: int, size: int = SIZE) -> bytes:
    """Bytes that tell which chunk they are of."""
    return number.to_bytes(8, "big") * (size // 8)


def fill(cache: ChunkCache, numbers: range, layer: bytes = b"layer") -> None:
    for number in numbers:
        assert cache.put(key(number, layer), chunk(number))


def present(cache: ChunkCache, numbers: range, layer: bytes = b"layer") -> list[int]:
    """Return which chunks are there, and check that these are right."""
    found = [(number, cache.get(key(number, layer))) for number in numbers]
    assert all(data in (None, chunk(number)) for number, data in found)
    return [number for number, data in found if data is not None]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def cache(root: str, census: None) -> Iterator[ChunkCache]:
    with closing(ChunkCache(root, CAP)) as opened:
        yield opened


def on_disk(root: str, suffix: str = SUFFIX) -> int:
    names = [name for name in os.listdir(root) if name.endswith(suffix)]
    return sum(os.stat(os.path.join(root, name)).st_size for name in names)


def test_what_goes_in_comes_out(cache: ChunkCache) -> None:
    assert cache.get(key(0)) is None
    assert cache.put(key(0), b"abcdef")
    assert cache.get(key(0)) == b"abcdef"
    assert cache.get(key(0), 2) == b"cdef"
    assert cache.get(key(0), 2, 3) == b"cde"
    assert cache.get(key(0), 6, 0) == b""
    stats = cache.stats()
    assert (stats.chunks, stats.hits, stats.misses) == (1, 4, 1)


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (0, 7), (6, 1), (7, 0), (2, -1)])
def test_a_part_that_is_not_there_is_a_miss(cache: ChunkCache, start: int, size: int) -> None:
    cache.put(key(0), b"abcdef")
    assert cache.get(key(0), start, size) is None


def test_layer_index_and_number_tell_chunks_apart(cache: ChunkCache) -> None:
    keys = [key(1), key(2), key(1, b"other"), key(1, index=Digest.of(b"other"))]
    for number, each in enumerate(keys):
        cache.put(each, chunk(number))
    assert [cache.get(each) for each in keys] == [chunk(number) for number in range(4)]


def test_a_second_put_of_a_chunk_writes_nothing(cache: ChunkCache) -> None:
    cache.put(key(0), chunk(0))
    before = cache.stats().bytes
    assert cache.put(key(0), chunk(0))
    assert cache.stats().bytes == before


@pytest.mark.parametrize("tables", [True, False])
def test_a_restart_keeps_everything(root: str, census: None, tables: bool) -> None:
    with closing(ChunkCache(root, CAP)) as cache:
        fill(cache, range(50))
        bytes_before = cache.stats().bytes
    if not tables:
        for name in os.listdir(root):
            if name.endswith(TABLE_SUFFIX):
                os.unlink(os.path.join(root, name))
    with closing(ChunkCache(root, CAP)) as cache:
        assert cache.stats().bytes == bytes_before
        fill(cache, range(50, 60))
        assert present(cache, range(60)) == list(range(60))
    with closing(ChunkCache(root, CAP)) as cache:
        assert present(cache, range(60)) == list(range(60))


def test_many_chunks_are_few_files(root: str, cache: ChunkCache) -> None:
    for number in range(5000):
        cache.put(key(number), b"x" * 100)
    assert cache.stats().chunks == 5000
    assert len(os.listdir(root)) < 50


def test_the_cap_holds(root: str, cache: ChunkCache) -> None:
    for start in range(0, 1500, 50):
        fill(cache, range(start, start + 50))
        assert cache.stats().bytes <= CAP
        assert on_disk(root) <= CAP
    assert cache.stats().evicted > 1000
    # The youngest are there, in one piece.
    there = present(cache, range(1500))
    assert there == list(range(there[0], 1500))
    assert len(there) * SIZE > CAP * 0.9


def test_what_is_used_stays(cache: ChunkCache) -> None:
    fill(cache, range(10))
    for number in range(10, 1000):
        cache.put(key(number), chunk(number))
        if number % 20 == 0:
            assert cache.get(key(3)) == chunk(3)
    assert present(cache, range(10)) == [3]


def test_a_smaller_cap_is_kept_from_the_start(root: str, census: None) -> None:
    with closing(ChunkCache(root, CAP)) as cache:
        fill(cache, range(300))
    with closing(ChunkCache(root, CAP // 4)) as cache:
        assert on_disk(root) <= CAP // 4
        assert present(cache, range(300))


def test_a_chunk_that_would_fill_the_cache_is_not_written(cache: ChunkCache) -> None:
    large = b"x" * (CAP // 2)
    assert not cache.put(key(0), large)
    # But it is in memory, so that it need not be fetched for each part.
    assert cache.get(key(0), 5, 3) == b"xxx"
    assert cache.stats().refused == 1


def test_a_dropped_chunk_does_not_return(root: str, census: None) -> None:
    with closing(ChunkCache(root, CAP)) as cache:
        fill(cache, range(20))
        cache.drop(key(5))
        cache.drop(key(77))
        assert present(cache, range(20)) == [n for n in range(20) if n != 5]
    with closing(ChunkCache(root, CAP)) as cache:
        assert present(cache, range(20)) == [n for n in range(20) if n != 5]
        fill(cache, range(5, 6))
    with closing(ChunkCache(root, CAP)) as cache:
        assert present(cache, range(20)) == list(range(20))


def test_a_forgotten_layer_gives_its_room_back(root: str, census: None) -> None:
    with closing(ChunkCache(root, CAP)) as cache:
        fill(cache, range(100), b"gone")
        fill(cache, range(50), b"stays")
        cache.put(key(1, b"gone", Digest.of(b"other")), b"x")
        cache.forget(Digest.of(b"gone"))
        assert not present(cache, range(100), b"gone")
        assert cache.get(key(1, b"gone", Digest.of(b"other"))) is None
        assert cache.stats().chunks == 50
        assert cache.stats().bytes < 70 * SIZE
        assert on_disk(root) == cache.stats().bytes
    with closing(ChunkCache(root, CAP)) as cache:
        assert not present(cache, range(100), b"gone")
        assert present(cache, range(50), b"stays") == list(range(50))
        fill(cache, range(3), b"gone")
    with closing(ChunkCache(root, CAP)) as cache:
        assert present(cache, range(100), b"gone") == [0, 1, 2]


def test_a_directory_has_one_owner(root: str, cache: ChunkCache) -> None:
    with pytest.raises(Unavailable, match=r"chunk cache .* is locked by another process"):
        ChunkCache(root, CAP)
    fill(cache, range(3))
    assert present(cache, range(3)) == [0, 1, 2]


def test_files_are_private(root: str, cache: ChunkCache) -> None:
    fill(cache, range(20))
    assert os.stat(root).st_mode & 0o777 == 0o700
    modes = {os.stat(os.path.join(root, name)).st_mode & 0o777 for name in os.listdir(root)}
    assert modes == {0o600}


def test_a_place_that_cannot_be_made_is_a_typed_error(tmp_path: Path, census: None) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Exception, match="chunk cache") as caught:
        ChunkCache(str(tmp_path / "file" / "cache"))
    assert type(caught.value).__module__ == "snapcore.errors"
    assert not isinstance(caught.value, PermissionDenied)


def test_after_close_nothing_is_found_and_nothing_breaks(root: str, census: None) -> None:
    cache = ChunkCache(root, CAP)
    fill(cache, range(5))
    cache.close()
    cache.close()
    assert cache.get(key(1)) is None
    assert not cache.put(key(7), b"x")
    cache.drop(key(1))
    cache.forget(Digest.of(b"layer"))
    with closing(ChunkCache(root, CAP)) as again:
        assert present(again, range(5)) == list(range(5))


def test_eviction_does_not_hold_up_readers(
    root: str, cache: ChunkCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    evicting, go_on = threading.Event(), threading.Event()
    unlink = Segment.unlink

    def slow(segment: Segment) -> None:
        evicting.set()
        assert go_on.wait(10)
        unlink(segment)

    monkeypatch.setattr(Segment, "unlink", slow)
    writer = threading.Thread(target=fill, args=(cache, range(450)))
    writer.start()
    try:
        assert evicting.wait(10)
        assert present(cache, range(300, 400)) == list(range(300, 400))
        assert cache.put(key(1000), chunk(1000))
        assert cache.get(key(1000)) == chunk(1000)
    finally:
        go_on.set()
        writer.join()


def test_threads_get_right_bytes_or_none(root: str, cache: ChunkCache) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(1200):
                number = (seed * 7919 + step * step) % 700
                if step % 97 == 0:
                    cache.drop(key(number))
                if step % 401 == 0:
                    cache.forget(Digest.of(b"layer"))
                data = cache.get(key(number))
                assert data in (None, chunk(number))
                if data is None:
                    cache.put(key(number), chunk(number))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert on_disk(root) == cache.stats().bytes <= CAP
    assert cache.stats().damaged == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_write_that_fails_is_nobodys_error(
    root: str, census: None, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    now = 0.0
    with closing(ChunkCache(root, CAP, lambda: now)) as cache:
        fill(cache, range(100))

        def failing(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as broken:
            broken.setattr(os, "pwritev", failing)
            assert not cache.put(key(200), chunk(200))
        # Not tried again at once; served from memory meanwhile.
        assert not cache.put(key(201), chunk(201))
        assert present(cache, range(200, 202)) == [200, 201]
        now = 11
        assert cache.put(key(202), chunk(202))
        lost = 100 - len(present(cache, range(100)))
        assert (lost > 0) == (code == errno.ENOSPC)
        survivors = present(cache, range(300))
    with closing(ChunkCache(root, CAP)) as cache:
        assert present(cache, range(300)) == [n for n in survivors if n not in (200, 201)]


def test_a_read_that_fails_is_a_miss(cache: ChunkCache, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, range(2))

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", failing)
        assert cache.get(key(0)) is None
    assert cache.get(key(0)) is None
    assert cache.put(key(0), chunk(0))
    assert present(cache, range(2)) == [0, 1]
    assert cache.stats().damaged == 1


@pytest.mark.needs_root
def test_a_full_disk_makes_the_cache_smaller(tmp_path: Path, census: None) -> None:
    now = 0.0
    mount("tmpfs", str(tmp_path), "tmpfs", MountFlag(0), "size=1m")
    try:
        with closing(ChunkCache(str(tmp_path / "cache"), CAP, lambda: now)) as cache:
            for number in range(400):
                now += 1
                cache.put(key(number), chunk(number))
                assert cache.get(key(number)) == chunk(number)
            assert present(cache, range(400))
            assert cache.stats().refused
            assert cache.stats().bytes <= 1 << 20
        with closing(ChunkCache(str(tmp_path / "cache"), CAP)) as cache:
            assert present(cache, range(400))
    finally:
        umount(str(tmp_path))
