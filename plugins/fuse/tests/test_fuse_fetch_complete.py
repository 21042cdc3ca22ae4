"""A layer becomes a whole, verified blob on this host."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from snapcore.errors import DataLoss, NotFound, ResourceExhausted, Unavailable
from snapcore.linux import MountFlag, mount, umount
from snapcore.oci import Digest
from snapcore.oci.descriptor import OCI_LAYER
from snapcore_fuse.fetch import FileSink, FileSource, Priority, Slots, complete
from snapcore_fuse.fetch.complete import REQUEST_BYTES
from snapcore_fuse.fetch.tally import Tally
from snapcore_fuse.formats import BlobRange, LayerSource

PLAIN = os.urandom(3 << 20) + bytes(2 << 20)
DATA = gzip.compress(PLAIN, 1)
BLOB = LayerSource(Digest.of(DATA), len(DATA), f"{OCI_LAYER}+gzip", Digest.of(PLAIN))
REQUESTS = -(-len(DATA) // REQUEST_BYTES)


class Bytes:
    """A source with these bytes."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.asked: list[BlobRange] = []
        self.distrusted = 0
        self.fail_at = -1
        self.hang = trio.Event()
        self.hang_at = -1

    async def read(self, wanted: BlobRange, priority: Priority) -> bytes:
        assert priority is Priority.BACKGROUND
        self.asked.append(wanted)
        if len(self.asked) == self.fail_at:
            raise Unavailable("down")
        if len(self.asked) == self.hang_at:
            self.hang.set()
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self.data[wanted.offset : wanted.end]

    def distrust(self) -> None:
        self.distrusted += 1


@pytest.fixture
def path(tmp_path: Path, census: None) -> str:
    return str(tmp_path / "blob")


async def test_a_whole_blob_is_gathered_and_verified(path: str) -> None:
    source, tally = Bytes(), Tally()
    await complete(source, Slots(quiet=0), BLOB, FileSink(path), tally)
    assert Path(path).read_bytes() == DATA
    assert os.listdir(os.path.dirname(path)) == ["blob"]
    assert (tally.requests, tally.fetched) == (REQUESTS, len(DATA))
    local = FileSource(path)
    assert await local.read(BlobRange(1000, 50), Priority.BLOCKED) == DATA[1000:1050]


async def test_what_came_before_a_failure_is_kept(path: str) -> None:
    source = Bytes()
    source.fail_at = 2
    with pytest.raises(Unavailable):
        await complete(source, Slots(quiet=0), BLOB, FileSink(path))
    assert not os.path.exists(path)
    again = Bytes()
    await complete(again, Slots(quiet=0), BLOB, FileSink(path))
    assert again.asked[0].offset == REQUEST_BYTES
    assert Path(path).read_bytes() == DATA


async def test_what_came_before_a_cancel_is_kept(path: str) -> None:
    source = Bytes()
    source.hang_at = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(complete, source, Slots(quiet=0), BLOB, FileSink(path))
        await source.hang.wait()
        nursery.cancel_scope.cancel()
    again = Bytes()
    await complete(again, Slots(quiet=0), BLOB, FileSink(path))
    assert len(again.asked) == REQUESTS - 1


@pytest.mark.parametrize(
    ("data", "blob", "says"),
    [
        (DATA[:-9] + b"x" * 9, BLOB, "cannot be decompressed"),
        (gzip.compress(PLAIN, 1, mtime=7), BLOB, "another digest"),
        (DATA, replace(BLOB, diff_id=Digest.of(b"other")), "has the diff ID"),
        (b"x" * len(DATA), BLOB, "another digest"),
    ],
    ids=["damaged", "other bytes", "other diff ID", "no layer"],
)
async def test_what_is_not_the_layer_is_not_kept(
    path: str, data: bytes, blob: LayerSource, says: str
) -> None:
    source = Bytes(data)
    with pytest.raises(DataLoss, match=says):
        await complete(source, Slots(quiet=0), blob, FileSink(path))
    assert source.distrusted == 1
    assert os.listdir(os.path.dirname(path)) == []
    await complete(Bytes(), Slots(quiet=0), BLOB, FileSink(path))


async def test_rubbish_of_an_earlier_run_is_found_and_fetched_anew(path: str) -> None:
    Path(f"{path}.partial").write_bytes(b"x" * (len(DATA) + 5))
    with pytest.raises(DataLoss):
        await complete(Bytes(), Slots(quiet=0), BLOB, FileSink(path))
    await complete(Bytes(), Slots(quiet=0), BLOB, FileSink(path))
    assert Path(path).read_bytes() == DATA


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[str]:
    mount("tmpfs", str(tmp_path), "tmpfs", MountFlag(0), "size=1m")
    yield str(tmp_path / "blob")
    umount(str(tmp_path))


@pytest.mark.needs_root
async def test_a_full_disk_is_said_and_costs_nothing_else(full_disk: str, census: None) -> None:
    with pytest.raises(ResourceExhausted, match="blob"):
        await complete(Bytes(), Slots(quiet=0), BLOB, FileSink(full_disk))
    assert not os.path.exists(full_disk)


async def test_a_file_that_is_gone_or_short_is_a_typed_error(path: str) -> None:
    with pytest.raises(NotFound):
        await FileSource(path).read(BlobRange(0, 1), Priority.BLOCKED)
    Path(path).write_bytes(b"short")
    with pytest.raises(DataLoss, match="too short"):
        await FileSource(path).read(BlobRange(3, 3), Priority.BLOCKED)
