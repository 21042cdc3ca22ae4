"""The chunk cache after crashes: what is torn or rotten is never served, the rest is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from snapcore.oci import Digest
from snapcore_fuse.cache import ChunkCache, ChunkKey
from snapcore_fuse.cache.records import HEADER_BYTES
from snapcore_fuse.cache.segment import SUFFIX, TABLE_SUFFIX

CAP = 4 << 20
INDEX = Digest.of(b"index")
WRITER = """
import sys, threading
from snapcore.oci import Digest
from snapcore_fuse.cache import ChunkCache, ChunkKey
cache = ChunkCache(sys.argv[1], 4 << 20)
print("open", flush=True)
def work(first):
    for number in range(first, 10**6, 2):
        key = ChunkKey(Digest.of(b"layer"), Digest.of(b"index"), number)
        cache.put(key, number.to_bytes(8, "big") * 2000)
        if number % 64 == first:
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
for thread in threads:
    thread.start()
"""


def key(number: int) -> ChunkKey:
    return ChunkKey(Digest.of(b"layer"), INDEX, number)


def chunk(number: int) -> bytes:
    return number.to_bytes(8, "big") * 100


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A cache with 30 chunks in one segment, as a crash leaves it: without a table."""
    directory = str(tmp_path / "cache")
    with closing(ChunkCache(directory, CAP)) as cache:
        for number in range(30):
            cache.put(key(number), chunk(number))
    os.unlink(_path(directory, TABLE_SUFFIX))
    return directory


def _path(root: str, suffix: str) -> str:
    (name,) = (name for name in os.listdir(root) if name.endswith(suffix))
    return os.path.join(root, name)


def check(root: str) -> list[int]:
    """Return the chunks that are served, all of them right; and see that the cache still works."""
    with closing(ChunkCache(root, CAP)) as cache:
        found = [(number, cache.get(key(number))) for number in range(30)]
        assert all(data in (None, chunk(number)) for number, data in found)
        for number in range(30, 40):
            assert cache.put(key(number), chunk(number))
    with closing(ChunkCache(root, CAP)) as cache:
        assert all(cache.get(key(number)) == chunk(number) for number in range(30, 40))
    return [number for number, data in found if data is not None]


RECORD = HEADER_BYTES + 800


@pytest.mark.parametrize(
    "length",
    [0, 1, HEADER_BYTES, RECORD - 1, RECORD, RECORD + 5, 29 * RECORD + 70, 30 * RECORD - 1],
)
def test_a_file_cut_anywhere_keeps_what_is_whole(root: str, census: None, length: int) -> None:
    os.truncate(_path(root, SUFFIX), length)
    assert check(root) == list(range(length // RECORD))


@pytest.mark.parametrize("at", [0, 5, 9, 20, 60, HEADER_BYTES, RECORD - 1, 7 * RECORD + 3])
@pytest.mark.parametrize("damage", [lambda old: old ^ 1, lambda old: 0], ids=["flip", "zero"])
def test_a_damaged_byte_is_never_served(
    root: str, census: None, at: int, damage: Callable[[int], int]
) -> None:
    path = _path(root, SUFFIX)
    data = bytearray(Path(path).read_bytes())
    changed = data[at] != damage(data[at])
    data[at] = damage(data[at])
    Path(path).write_bytes(data)
    served = check(root)
    if changed:
        assert at // RECORD not in served
    assert set(range(at // RECORD)) <= set(served)


def test_a_file_of_zeros_is_as_good_as_none(root: str, census: None) -> None:
    path = _path(root, SUFFIX)
    Path(path).write_bytes(bytes(os.stat(path).st_size))
    assert check(root) == []


@pytest.mark.parametrize("kept", [0, 10, 200, -1])
def test_a_damaged_table_is_not_used(tmp_path: Path, census: None, kept: int) -> None:
    root = str(tmp_path / "cache")
    with closing(ChunkCache(root, CAP)) as cache:
        for number in range(30):
            cache.put(key(number), chunk(number))
    path = Path(_path(root, TABLE_SUFFIX))
    path.write_bytes(path.read_bytes()[:kept])
    assert check(root) == list(range(30))


def test_a_table_of_a_longer_file_is_not_used(tmp_path: Path, census: None) -> None:
    root = str(tmp_path / "cache")
    with closing(ChunkCache(root, CAP)) as cache:
        for number in range(30):
            cache.put(key(number), chunk(number))
    os.truncate(_path(root, SUFFIX), 10 * RECORD + 7)
    assert check(root) == list(range(10))


@pytest.mark.parametrize("lines", [1, 5, 12, 19])
def test_a_killed_writer_leaves_a_sound_cache(tmp_path: Path, census: None, lines: int) -> None:
    root = str(tmp_path / "cache")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, root], stdout=subprocess.PIPE, env={**os.environ}
    ) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            last = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    with closing(ChunkCache(root, CAP)) as cache:
        served = 0
        for number in range(3000):
            data = cache.get(key(number))
            assert data in (None, number.to_bytes(8, "big") * 2000)
            served += data is not None
        assert cache.stats().damaged <= 2
        assert served == cache.stats().chunks
        if lines > 1:
            assert served >= min(int(last) // 2, 150)
