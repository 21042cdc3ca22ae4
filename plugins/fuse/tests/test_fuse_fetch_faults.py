"""Lazy reads from a registry that misbehaves: right bytes or a typed error, in bounded time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from support.clients import PATIENCE, opened
from support.content import content_store
from support.faults import FakeRegistry, Fault, cut, stall, status, with_body, with_headers
from support.lazy import PlainReader, content

from snapcore.content import ContentStore
from snapcore.errors import DataLoss, NotFound, PermissionDenied, SnapcoreError
from snapcore.linux import MountFlag, mount, umount
from snapcore.locks import Owner
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.registry import RangePatience
from snapcore_fuse.cache import ChunkCache
from snapcore_fuse.fetch import FetchOptions, LayerData, RegistrySource, Slots
from snapcore_fuse.formats import BlobRange

READER = PlainReader(64, 4096)
BLOB = content(BlobRange(0, READER.size))
INDEX = Digest.of(b"index")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    root = tmp_path / "store"
    root.mkdir()
    owner = Owner(str(root))
    yield content_store(str(root), owner)
    owner.close()


@asynccontextmanager
async def lazy(store: ContentStore, registry: FakeRegistry, root: str) -> AsyncIterator[LayerData]:
    """A layer whose blob is at the registry."""
    blob = Descriptor(OCI_LAYER, registry.add_blob(BLOB), len(BLOB))
    with opened(store) as client, closing(ChunkCache(root, 16 << 20)) as cache:
        reference = Reference.parse(f"{registry.host}/lib/app:1")
        ranges = await client.ranges(blob, reference, RangePatience(deadline=5, stall=0.1))
        async with trio.open_nursery() as nursery:
            yield LayerData(
                blob.digest,
                INDEX,
                READER,
                RegistrySource(ranges),
                cache,
                slots=Slots(),
                nursery=nursery,
                options=FetchOptions(around=0, deadline=5, read_ahead=0),
            )
            nursery.cancel_scope.cancel()


FAULTS = {
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "cut": cut(700),
    "stall": stall(700),
    "wrong body": with_body(b"x" * 4096),
    "wrong range": with_headers({"Content-Range": f"bytes 1-4096/{len(BLOB)}"}),
    "other size": with_headers({"Content-Range": "bytes 8192-12287/1"}),
}
# With bytes in each answer a read comes to its end.
FOR_GOOD = FAULTS | {"cut": cut(0), "stall": stall(0)}
# What a single fault costs: nothing, or the one read.
FATAL = {
    "401": PermissionDenied,
    "403": PermissionDenied,
    "404": NotFound,
    "other size": DataLoss,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_one_fault(store: ContentStore, tmp_path: Path, census: None, name: str) -> None:
    with FakeRegistry() as registry:
        async with lazy(store, registry, str(tmp_path / "cache")) as layer:
            registry.spoil("/blobs/", FAULTS[name])
            fatal: type[SnapcoreError] | None = FATAL.get(name)
            if fatal is not None:
                with pytest.raises(fatal):
                    await layer.read(8192, 4096)
            assert await layer.read(8192, 4096) == BLOB[8192:12288]
            assert layer.status().last_error == ""


@pytest.mark.parametrize("name", FOR_GOOD)
async def test_a_fault_that_stays_ends_in_time_and_what_is_cached_is_served(
    store: ContentStore, tmp_path: Path, census: None, name: str
) -> None:
    with FakeRegistry() as registry:
        async with lazy(store, registry, str(tmp_path / "cache")) as layer:
            assert await layer.read(0, 8000) == BLOB[:8000]
            faults: list[Fault] = [FOR_GOOD[name]] * 100
            registry.spoil("/blobs/", *faults)
            started = time.monotonic()
            for _ in range(5):
                with pytest.raises(SnapcoreError):
                    await layer.read(8192, 4096)
            assert time.monotonic() - started < 5
            assert len(registry.requests("/blobs/")) <= 5 * PATIENCE.attempts + 1
            assert await layer.read(0, 8000) == BLOB[:8000]


@pytest.mark.needs_root
async def test_a_full_disk_costs_nothing_but_speed(
    store: ContentStore, tmp_path: Path, census: None
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mount("tmpfs", str(full), "tmpfs", MountFlag(0), "size=64k")
    try:
        with FakeRegistry() as registry:
            async with lazy(store, registry, str(full / "cache")) as layer:
                for start in range(0, READER.size, 8192):
                    assert await layer.read(start, 8192) == BLOB[start : start + 8192]
    finally:
        umount(str(full))
